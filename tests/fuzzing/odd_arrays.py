"""Arrays that are hard to read rightly: at the edge of mapped memory, of any layout, of any value."""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
from arrays import BFLOAT16, LAYOUTS, native
from numpy.typing import NDArray

__all__ = ["at_the_edge", "dirty", "float_layout", "huge"]

Array = NDArray[Any]
Rng = np.random.Generator

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

# Those that leave the values as they are.
_LAYOUTS = [layout for name, layout in LAYOUTS.items() if not name.startswith("broadcast")]


def at_the_edge(x: Array, *, after: bool = True) -> Array:
    """Copy `x` to where the memory behind its last byte (or before its first) may not be touched.

    A kernel that reads or writes one byte too many dies of it.
    """
    page = mmap.PAGESIZE
    size = max(-(-x.nbytes // page), 1) * page
    memory = mmap.mmap(-1, size + page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if _LIBC.mprotect(address + (size if after else 0), page, 0):
        raise OSError(ctypes.get_errno(), "mprotect")
    begin = size - x.nbytes if after else page
    view = np.frombuffer(memory, np.uint8, x.nbytes, begin)
    result = view.view(x.dtype).reshape(x.shape) if x.nbytes else x.copy()
    result[...] = x
    return result


def float_layout(rng: Rng, x: Array) -> Array:
    """Lay the values of `x` out in memory in some way."""
    choice = int(rng.integers(len(_LAYOUTS) + 5))
    if choice < len(_LAYOUTS) and x.ndim and x.size:
        return _LAYOUTS[choice](x)
    if choice < len(_LAYOUTS) + 4 and x.dtype.hasobject is False:
        return at_the_edge(native(x), after=rng.random() < 0.8)
    return x


def dirty(rng: Rng, x: Array) -> Array:
    """Put NaN, infinities, huge and subnormal numbers among the values."""
    largest = 3e38 if x.dtype == BFLOAT16 else float(np.finfo(x.dtype).max)
    tiny = (
        float(np.finfo(np.float32).smallest_subnormal)
        if x.dtype == BFLOAT16
        else float(np.finfo(x.dtype).tiny)
    )
    values = (np.nan, np.inf, -np.inf, largest, -largest, tiny, -tiny / 2, -0.0, 0.0, 1e4)
    result = native(x)
    for _ in range(int(rng.integers(1, 6))):
        if result.size:
            result.reshape(-1)[int(rng.integers(result.size))] = values[int(rng.integers(len(values)))]
    if rng.random() < 0.1:
        result[...] = values[int(rng.integers(len(values)))]
    return result


def huge(rng: Rng, dtype: Any, ndim: int) -> Array:
    """Make an array of very many elements that is one number in memory."""
    shape = [int(rng.choice([1, 3])) for _ in range(max(ndim, 1))]
    shape[int(rng.integers(len(shape)))] = 1 << 40
    return np.broadcast_to(np.ones((), dtype), shape)
