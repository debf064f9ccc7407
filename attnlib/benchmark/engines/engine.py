"""What the engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Call", "Engine"]

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
        The result as the float32 array that all engines agree on; untimed.
    """

    way: str
    run: Callable[[], Any]
    array: Callable[[Any], Array] = np.asarray


class Engine(ABC):
    """A library, ready to run with some number of threads.

    An operation is either a function in `simple`, from arrays of the engine's own kind to one such array, or
    a method of the operation's name that takes a precision and the workload's inputs and returns calls. What
    is neither, or has no calls in a precision, is what the library does not have.
    """

    name: ClassVar[str]
    most_threads: ClassVar[int | None] = None
    simple: Mapping[str, Callable[..., Any]] = {}
    # The precisions that `simple` is for: those that `own` and `array` convert to and from.
    simple_precisions: ClassVar[tuple[str, ...]] = ("float32",)

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @property
    @abstractmethod
    def version(self) -> str:
        """Its version, and what else tells it from another build."""

    def own(self, value: Any, precision: str) -> Any:
        """Turn an array of NumPy's into one of the engine's; anything else stays what it is."""
        return value

    def array(self, value: Any) -> Array:
        """Turn one of the engine's into a float32 array of NumPy's."""
        return np.asarray(value, np.float32)

    def calls(self, operation: str, precision: str, inputs: tuple[Any, ...]) -> list[Call]:
        """Prepare an operation (arrays, packed weights, models) and return the ways to call it."""
        if operation in self.simple:
            if precision not in self.simple_precisions:
                return []
            function, arguments = self.simple[operation], [self.own(value, precision) for value in inputs]
            return [Call(operation, lambda: function(*arguments), self.array)]
        method: Callable[..., list[Call]] | None = getattr(self, operation, None)
        return method(precision, *inputs) if method else []
