"""Arrays of whatever may be passed as one, where Python looks at it before the native module does.

The policy is that of ``bindings/ndarray.cpp``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.dlpack import read_tensor

__all__ = ["as_array", "optional_array"]


def as_array(what: str, x: Any) -> NDArray[Any]:
    """Return `x` as an array, without a copy where that is possible; errors begin with `what`.

    Tensors of other libraries come through DLPack: their ``__array__`` knows no bfloat16.
    """
    if type(x) is np.ndarray:
        return x
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{what} is a masked array, whose mask would be lost; pass array.filled(value)")
    if hasattr(x, "__dlpack__") and not isinstance(x, np.ndarray):
        return read_tensor(x, what)
    try:
        return np.asarray(x)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{what} is not an array: {error}") from None


def optional_array(what: str, x: Any) -> NDArray[Any] | None:
    """Return the same, or None."""
    return None if x is None else as_array(what, x)
