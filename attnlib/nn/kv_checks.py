"""What a `KVCache` makes sure of before it changes anything."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib.nn.module import check_size

__all__ = ["check_limits", "check_tokens", "check_truncation", "storage_dtype", "whole_numbers"]

_FLOATS = tuple(np.dtype(d) for d in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16))
_STORED = {dtype.name: dtype for dtype in (*_FLOATS, np.dtype(np.int8))}
# 8 bits are made of what float32 holds exactly.
_QUANTISED = tuple(dtype for dtype in _FLOATS if dtype != np.float64)


def storage_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """Return the dtype that a cache is asked to store."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        raise TypeError(f"KVCache: dtype {dtype!r} is not known") from None
    if name not in _STORED:
        raise TypeError(f"KVCache: dtype must be one of {', '.join(_STORED)}, got {name}")
    return _STORED[name]


def check_tokens(name: str, tokens: NDArray[Any], store: NDArray[Any]) -> None:
    """Check that new keys or values are (B, G, S, D), of a dtype that `store`, (B, G, capacity, D), takes."""
    batch, heads, _, size = store.shape
    shape, stored = tokens.shape, store.dtype
    if len(shape) != 4 or (shape[0], shape[1], shape[3]) != (batch, heads, size):
        expected = f"({batch}, {heads}, S, {size})"
        raise ValueError(f"KVCache.append: {name} has shape {shape}, the cache needs {expected}")
    if tokens.dtype == stored != np.int8:
        return
    allowed = _QUANTISED if stored == np.int8 else (stored,)
    if tokens.dtype not in allowed:
        names = ", ".join(dtype.name for dtype in allowed)
        raise TypeError(f"KVCache.append: {name} has dtype {tokens.dtype}, a {stored} cache takes {names}")


def check_limits(**limits: int | None) -> None:
    """Check that these are at least 1, or None."""
    for name, limit in limits.items():
        if limit is not None:
            check_size("KVCache", **{name: limit})
            if limit == 0:
                raise ValueError(f"KVCache: {name} must be at least 1, got 0")


def check_truncation(
    limit: NDArray[np.int64], lengths: NDArray[np.int64], evicted: NDArray[np.int64], window: int | None
) -> None:
    """Check that sequences which go back to `limit` tokens lack none that the next query may read."""
    least = (window or 1) - 1
    lacking = (evicted > 0) & (limit < lengths) & (limit < least)
    if lacking.any():
        layer, row = np.argwhere(lacking)[0]
        raise ValueError(
            f"KVCache.truncate: length is {limit[row]} for sequence {row}, of which the first"
            f" {evicted[layer, row]} tokens were evicted: at least {least} of those kept must stay,"
            " the next token reads them; or reset() forgets all"
        )


def whole_numbers(what: str, value: ArrayLike, batch: int, most: int | None = None) -> NDArray[np.int64]:
    """Return an integer, or one for each sequence, as (B,), each from 0 to `most`."""
    array = np.asarray(value)
    if array.dtype.kind not in "iu":
        raise TypeError(f"KVCache.{what} must be integers, got {array.dtype}")
    if array.shape not in ((), (batch,)):
        raise ValueError(f"KVCache.{what} has shape {array.shape}, expected () or ({batch},)")
    if (array < 0).any() or (most is not None and (array > most).any()):
        bound = "not be negative" if most is None else f"be in 0..{most}"
        raise ValueError(f"KVCache.{what} must {bound}, got {array}")
    return np.broadcast_to(array.astype(np.int64), (batch,))
