"""Random arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["normal"]


def normal(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    """Draw float32 from the normal distribution."""
    return rng.standard_normal(shape, dtype=np.float32)
