"""Arguments that are not what a function takes."""

from __future__ import annotations

import warnings
from typing import Any

import ml_dtypes
import numpy as np
from arrays import DTYPES, native

from .odd_arrays import huge

__all__ = ["spoil"]

Rng = np.random.Generator

_DTYPES: tuple[Any, ...] = (
    np.int8,
    np.int32,
    np.int64,
    np.uint16,
    np.uint64,
    np.bool_,
    np.complex64,
    np.longdouble,
    object,
    "U3",
    "S3",
    "M8[s]",
    ml_dtypes.float8_e4m3fn,
    ml_dtypes.int4,
    *DTYPES.values(),
)
_INTEGERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    -(1 << 63),
    1 << 64,
)
_FLOATS = (0.0, -0.0, -1.0, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 3.7)
_THINGS: tuple[Any, ...] = (
    None,
    True,
    "text",
    b"bytes",
    object(),
    {},
    {1.0},
    (),
    [],
    [[1.0], [1.0, 2.0]],
    (1, 2, 3),
    1j,
)


def spoil(rng: Rng, value: Any) -> Any:
    """Return something else in the place of an argument."""

    def pick(options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    if rng.random() < 0.15:
        return pick(_THINGS)
    if isinstance(value, np.ndarray):
        return _other_array(rng, value)
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return pick(
            (
                *_INTEGERS[:4],
                *_FLOATS[:2],
                True,
                False,
                "relu",
                "",
                "int8",
                None,
                (0, None),
                (-1, 3),
                (1 << 63, 0),
            )
        )
    if isinstance(value, (int, float)):
        return pick((*_INTEGERS, *_FLOATS, np.float32(0.5), np.int64(1), np.ones(1), np.ones(2), "1"))
    if isinstance(value, tuple) and value:
        items = list(value)
        items[int(rng.integers(len(items)))] = pick((*_INTEGERS, None, 0.5, "1"))
        return tuple(items) if rng.random() < 0.7 else items
    return pick(_THINGS)


def _other_array(rng: Rng, x: np.ndarray) -> Any:
    if x.size > 1 << 24:
        return None  # spoilt already
    axis = int(rng.integers(x.ndim)) if x.ndim else 0
    match int(rng.integers(13)):
        case 0:
            return x[None]
        case 1 if x.ndim and x.shape[0]:
            return x[0]
        case 2 if x.ndim:
            return np.concatenate(
                [x, x[:1] if axis == 0 else np.take(x, [0], axis)] if x.shape[axis] else [x], axis
            )
        case 3 if x.ndim:
            return np.delete(x, 0, axis) if x.shape[axis] else x
        case 4 if x.ndim:
            return np.delete(x, slice(None), axis)
        case 5 | 6:
            try:
                dtype = np.dtype(_DTYPES[int(rng.integers(len(_DTYPES)))])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return np.zeros(x.shape, dtype) if dtype.kind in "MUS" else native(x).astype(dtype)
            except (TypeError, ValueError, OverflowError):
                return np.zeros(x.shape, np.int16)
        case 7:
            return np.swapaxes(x, 0, -1) if x.ndim else x
        case 8 if x.dtype.kind in "iu":
            changed = x.astype(np.int64)
            if changed.size:
                changed.reshape(-1)[int(rng.integers(x.size))] = int(rng.choice(_INTEGERS[:11]))
            return changed
        case 9:
            return np.ma.masked_array(x, mask=np.zeros(x.shape, bool))
        case 10:
            return x.tolist() if x.size < 100 and x.dtype.kind in "fiu" else x
        case 11 if x.dtype.kind == "f":
            return huge(rng, x.dtype, x.ndim)
        case _:
            return x.reshape(-1) if rng.random() < 0.5 else x.reshape(-1)[:1].reshape(()) if x.size else x
