"""What the functions of other libraries are given, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.dlpack import from_dlpack

__all__ = ["as_array", "optional_array"]


def as_array(x: Any) -> NDArray[Any]:
    """Return `x` as an array, without a copy where that is possible."""
    if hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray):
        return from_dlpack(x)
    return np.asarray(x)


def optional_array(x: Any) -> NDArray[Any] | None:
    """Return the same, or None."""
    return None if x is None else as_array(x)
