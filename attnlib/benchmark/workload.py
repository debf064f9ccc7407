"""What a workload is: arrays, the work in them, and what attnlib is expected to reach."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

__all__ = ["PRECISIONS", "Array", "Inputs", "Target", "Workload", "at_least"]

Array = NDArray[Any]
Inputs = tuple[Any, ...]

# From the most to the least exact.
PRECISIONS = ("float32", "bfloat16", "int8", "int4")


def at_least(precision: str) -> tuple[str, ...]:
    """Return the precisions that are as exact as `precision` or more: any of them serves who asks for it."""
    return PRECISIONS[: PRECISIONS.index(precision) + 1]


@dataclass(frozen=True)
class Target:
    """What attnlib is expected to reach at least.

    Attributes
    ----------
    kind : "ratio", "share" or "cosine"
        A ratio is a peer's time over attnlib's; a share is of the workload's ceiling; the cosine is the
        smallest one to the float32 result, over its rows.
    least : float
    peer : str or None
        For a ratio: an engine; None for the best of all peers.
    precision : str or None
        For a ratio: that engine in this precision; None for its fastest in any that will do.
    """

    kind: Literal["ratio", "share", "cosine"]
    least: float
    peer: str | None = None
    precision: str | None = None


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes
    ----------
    case : str
        Operation and sizes.
    precision : str
        What attnlib computes in. Peers may take any precision that is at least as exact.
    family : str
        What it is summarised with.
    operation : str
        What the engines call it.
    make : function of a generator
        Makes the inputs, in the order in which the engines' functions take them.
    ceiling : str or None
        What bounds it: multiply-adds in ``"float32"``, ``"bfloat16"`` or ``"int8"``; ``"memory"``, for what
        no cache holds; ``"cache"``, for reading as many bytes from wherever they live; None for neither.
    amount : float
        How much of that it needs: floating-point operations, or bytes.
    texts : int
        Texts encoded, where texts are; else 0.
    targets : tuple of Target
    curve : str or None
        A point on a plot of time against sequence length, and which: not of the table.
    length : int
        Sequence length, if it is such a point.
    """

    case: str
    precision: str
    family: str
    operation: str
    make: Callable[[np.random.Generator], Inputs]
    ceiling: str | None = None
    amount: float = 0.0
    texts: int = 0
    targets: tuple[Target, ...] = ()
    curve: str | None = None
    length: int = 0

    @property
    def name(self) -> str:
        """The case, and the precision if it is not float32."""
        return self.case if self.precision == "float32" else f"{self.case} {self.precision}"

    def __str__(self) -> str:
        return self.name

    @property
    def peer_precisions(self) -> tuple[str, ...]:
        """What peers may compute in."""
        return (self.precision,) if self.curve else at_least(self.precision)

    def inputs(self) -> Inputs:
        """Make the inputs: the same ones in each run.

        For bfloat16 their values are of that precision already, so that it is the same problem for whoever
        computes in float32.
        """
        made = self.make(np.random.default_rng(zlib.crc32(self.case.encode())))
        return tuple(map(_rounded, made)) if self.precision == "bfloat16" else made


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(array) for name, array in value.items()}
    if isinstance(value, np.ndarray) and value.dtype == np.float32:
        return value.astype(ml_dtypes.bfloat16).astype(np.float32)
    return value
