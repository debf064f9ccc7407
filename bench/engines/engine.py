"""What the engines have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Call", "Engine"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Call:
    """One way to have an engine compute a workload.

    Attributes
    ----------
    way : str
        What is called; an engine that offers several is judged by its fastest.
    run : function
        Computes it once. This, and nothing else, is timed.
    array : function of what `run` returned
        The result as the array that all engines agree on; untimed.
    """

    way: str
    run: Callable[[], Any]
    array: Callable[[Any], Array] = np.asarray


class Engine:
    """A library, ready to run with some number of threads.

    An operation is either a function in `simple`, from arrays of the engine's own kind to one such array, or
    a method of the operation's name that takes the workload's inputs and returns calls. One that is neither
    is one that the library does not have.
    """

    name: ClassVar[str]
    simple: Mapping[str, Callable[..., Any]] = {}

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @property
    def version(self) -> str:
        raise NotImplementedError

    def own(self, value: Any) -> Any:
        """Turn an array of NumPy's into one of the engine's."""
        return value

    def calls(self, operation: str, inputs: tuple[Any, ...]) -> list[Call]:
        """Prepare an operation (arrays, packed weights, models) and return the ways to call it."""
        if operation in self.simple:
            function, arguments = self.simple[operation], [self.own(value) for value in inputs]
            return [Call(operation, lambda: function(*arguments))]
        method: Callable[..., list[Call]] | None = getattr(self, operation, None)
        return method(*inputs) if method else []
