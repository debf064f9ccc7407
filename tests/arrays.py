"""The arrays that the tests feed to attnlib: dtypes, memory layouts, random values.

Imports nothing of attnlib, as the oracle must not depend on what it judges.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Layout = Callable[[Array], Array]

# ATTNLIB_TEST_FULL=1 enlarges the matrices and the number of random examples; the plain run stays short.
FULL = os.environ.get("ATTNLIB_TEST_FULL", "0") not in ("", "0")

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
FLOAT16 = np.dtype(np.float16)
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
DTYPES = {"float32": FLOAT32, "float64": FLOAT64, "float16": FLOAT16, "bfloat16": BFLOAT16}

# One vector of the widest rung holds 16 floats: sizes on both sides of one, two, four and eight of them.
SIZES = (0, 1, 2, 7, 15, 16, 17, 33, 65, 129) + ((3, 31, 32, 48, 63, 64, 96, 127, 128, 257) if FULL else ())


def accumulator(dtype: Any) -> np.dtype[Any]:
    """The dtype in which operations on `dtype` accumulate: float64 for float64, else float32."""
    return FLOAT64 if np.dtype(dtype) == FLOAT64 else FLOAT32


def epsilon(dtype: Any) -> float:
    """Distance from 1 to the next number of `dtype`."""
    return float(ml_dtypes.finfo(np.dtype(dtype)).eps)


def smallest_normal(dtype: Any) -> float:
    """The smallest positive number of `dtype` that keeps all of its bits."""
    return float(ml_dtypes.finfo(np.dtype(dtype)).smallest_normal)


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any, scale: float = 1.0) -> Array:
    """Random normal values of standard deviation `scale`."""
    return np.asarray(rng.standard_normal(shape) * scale).astype(dtype)


def native(x: Array) -> Array:
    """The same values in a new C-contiguous, aligned array of the machine's byte order."""
    dtype = next(
        (known for known in DTYPES.values() if x.dtype.type is known.type), x.dtype.newbyteorder("=")
    )
    return np.array(x, dtype=dtype, order="C", copy=True, subok=False)


def transposed(x: Array) -> Array:
    """The last two axes lie in Fortran order."""
    if x.ndim < 2:
        return native(x)
    return np.swapaxes(native(np.swapaxes(x, -1, -2)), -1, -2)


def strided(x: Array) -> Array:
    """Every second element of a larger array."""
    storage = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    view = storage[..., ::2]
    view[...] = x
    return view


def reversed_axes(x: Array) -> Array:
    """Every stride is negative."""
    return np.flip(native(np.flip(x)))


def reversed_rows(x: Array) -> Array:
    """Contiguous last axis, negative strides elsewhere: read in place."""
    axes = tuple(range(x.ndim - 1))
    return np.flip(native(np.flip(x, axes)), axes)


def heads_last(x: Array) -> Array:
    """A (B, S, H, D) array seen through swapaxes(1, 2): contiguous last axis, swapped outer ones."""
    if x.ndim < 3:
        return native(x)
    return np.swapaxes(native(np.swapaxes(x, -2, -3)), -2, -3)


def window_of_rows(x: Array) -> Array:
    """Rows cut out of longer ones, whose neighbours are NaN: reading past the end of a row shows."""
    storage = np.full((*x.shape[:-1], x.shape[-1] + 5), np.nan, x.dtype)
    view = storage[..., 2 : 2 + x.shape[-1]]
    view[...] = x
    return view


def byte_swapped(x: Array) -> Array:
    """The other byte order."""
    return x.astype(x.dtype.newbyteorder())


def unaligned(x: Array) -> Array:
    """The data start one byte past an aligned address."""
    storage = bytearray(x.nbytes + 1)
    view = np.frombuffer(storage, dtype=x.dtype, count=x.size, offset=1).reshape(x.shape)
    view[...] = x
    return view


def read_only(x: Array) -> Array:
    """An input need not be writable."""
    result = native(x)
    result.flags.writeable = False
    return result


def broadcast_first(x: Array) -> Array:
    """The first axis repeated with stride 0 (the values change: all become those of index 0)."""
    return np.broadcast_to(x[:1], x.shape) if x.shape[0] else x


def broadcast_last(x: Array) -> Array:
    """The last axis repeated with stride 0 (the values change)."""
    return np.broadcast_to(x[..., :1], x.shape) if x.shape[-1] else x


LAYOUTS: dict[str, Layout] = {
    function.__name__: function
    for function in (
        transposed,
        strided,
        reversed_axes,
        reversed_rows,
        heads_last,
        window_of_rows,
        byte_swapped,
        unaligned,
        read_only,
        broadcast_first,
        broadcast_last,
    )
}


def out_layouts(shape: tuple[int, ...], dtype: Any) -> dict[str, Array]:
    """Writable arrays for `out=`, filled with NaN so that an element left unwritten shows."""
    filled = np.full(shape, np.nan, dtype)
    layouts: dict[str, Array] = {"contiguous": filled.copy()}
    for layout in (transposed, strided, reversed_axes, reversed_rows, heads_last, window_of_rows, unaligned):
        layouts[layout.__name__] = layout(filled)
    return layouts


def overlapping(x: Array, shape: tuple[int, ...], shift: int) -> tuple[Array, Array]:
    """A copy of `x` and a writable array of `shape` that begins `shift` elements into the same memory."""
    size = math.prod(shape)
    storage = np.zeros(max(x.size, size + shift), x.dtype)
    inside = storage[: x.size].reshape(x.shape)
    inside[...] = x
    return inside, storage[shift : shift + size].reshape(shape)


def same_bits(a: Array, b: Array) -> bool:
    """Equal shape, dtype and bits; NaN equals NaN only bit for bit, so compare results without NaN."""
    return a.shape == b.shape and a.dtype == b.dtype and native(a).tobytes() == native(b).tobytes()
