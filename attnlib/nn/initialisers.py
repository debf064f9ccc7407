"""What parameters are drawn from when no checkpoint brings them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Initialiser", "constant", "normal", "uniform", "xavier_bound"]

# In quotes, since NumPy imports its random module, and that hashlib and more, only when it is asked for.
Initialiser = Callable[["np.random.Generator", tuple[int, ...]], NDArray[Any]]


def uniform(rng: np.random.Generator, shape: tuple[int, ...], *, bound: float) -> NDArray[Any]:
    """Draw float32 numbers evenly from ``[-bound, bound)``."""
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    """Draw float32 numbers of the standard normal distribution."""
    return rng.standard_normal(shape, dtype=np.float32)


def constant(rng: np.random.Generator, shape: tuple[int, ...], *, value: float) -> NDArray[Any]:
    """Make a float32 array of one value; it takes nothing from `rng`."""
    return np.full(shape, value, dtype=np.float32)


def xavier_bound(rows: int, columns: int) -> float:
    """Compute the bound of Xavier's uniform distribution (Glorot and Bengio, 2010) for a weight."""
    return math.sqrt(6 / (rows + columns)) if rows + columns else 0.0
