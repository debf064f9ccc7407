"""Where a token stands: rotary embedding and sinusoidal encoding."""

from __future__ import annotations

import math
import operator
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib import _core

__all__ = ["rotary_embedding", "sinusoidal_encoding"]

_DTYPES: dict[str, np.dtype[Any]] = {
    "float32": np.dtype(np.float32),
    "float64": np.dtype(np.float64),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


def _float_dtype(dtype: DTypeLike) -> np.dtype[Any]:
    """`dtype`, if it is one of attnlib's."""
    for name, known in _DTYPES.items():
        # None, to NumPy, equals float64.
        if dtype is not None and dtype in (name, known):
            return known
    raise TypeError(f"sinusoidal_encoding: dtype must be one of {', '.join(_DTYPES)}, got {dtype!r}")


def rotary_embedding(
    x: ArrayLike,
    cos: ArrayLike,
    sin: ArrayLike,
    *,
    positions: ArrayLike | None = None,
    interleaved: bool = False,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Turn the features of queries or keys by angles that grow with their positions.

    J. Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021 (arXiv:2104.09864).
    With B batch, H heads, S positions, D features and R <= D of them turned, each plane of two features (x1,
    x2) becomes ``(x1 * cos - x2 * sin, x2 * cos + x1 * sin)``; features from R on pass through.

    Parameters
    ----------
    x
        Array (..., H, S, D) of any strides: float32, float64, float16 or bfloat16 (the last two are computed
        in float32 and rounded once). B is the product of the axes before H; (S, D) is one head.
    cos, sin
        Tables (max_position, R/2), of which `positions` picks rows, or the rows already picked, (B, S, R/2).
    positions
        Integers (S,) or (B, S), each in 0..max_position-1. Default: 0..S-1. None if `cos` and `sin` are (B,
        S, R/2). Here and there a B of 1 serves every batch.
    interleaved
        False (default): plane i is features i and i + R/2, as in GPT-NeoX and Llama. True: features 2i and 2i
        + 1, as in the paper and GPT-J.
    out
        Array of x's shape and the promoted dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape of `x`, in the dtype that `x`, `cos` and `sin` promote to.

    Raises
    ------
    TypeError
        If an input is of another dtype, `positions` not integers, or `out` not of the promoted dtype.
    ValueError
        If shapes do not fit, R exceeds D, a position lies outside the tables, or `out` is read-only.

    Examples
    --------
    >>> import numpy as np
    >>> angle = np.array([[0.0], [np.pi / 2]])
    >>> rotary_embedding(np.array([[[1.0, 0.0], [1.0, 0.0]]]), np.cos(angle), np.sin(angle)).round(4)
    array([[[1., 0.],
            [0., 1.]]])
    """
    return _core.rotary_embedding(x, cos, sin, positions, interleaved, out)


def sinusoidal_encoding(
    length: int, dim: int, *, base: float = 10000.0, dtype: DTypeLike = "float32"
) -> NDArray[Any]:
    """Positional encoding of A. Vaswani et al., "Attention is all you need", 2017 (arXiv:1706.03762).

    Position p has ``sin(p / base**(2i / dim))`` at feature 2i and the cosine of the same angle at feature 2i
    + 1.

    Parameters
    ----------
    length
        Number of positions, from 0.
    dim
        Number of features. An odd one leaves the last sine without its cosine.
    base
        Wavelengths run from 2 pi to nearly ``2 pi * base``; positive. Default 10000.
    dtype
        ``"float32"`` (default), ``"float64"``, ``"float16"`` or ``"bfloat16"``. The angles are computed in
        float64 and the result is rounded once.

    Returns
    -------
    NDArray
        (length, dim) of `dtype`.

    Raises
    ------
    TypeError
        If `length` or `dim` is not an integer, or `dtype` is another one.
    ValueError
        If `length` or `dim` is negative, or `base` not positive and finite.

    Examples
    --------
    >>> sinusoidal_encoding(2, 4).round(4)
    array([[0.    , 1.    , 0.    , 1.    ],
           [0.8415, 0.5403, 0.01  , 1.    ]], dtype=float32)
    """
    sizes = []
    for name, value in (("length", length), ("dim", dim)):
        try:
            sizes.append(operator.index(value))
        except TypeError:
            raise TypeError(f"sinusoidal_encoding: {name} must be an integer, got {value!r}") from None
        if sizes[-1] < 0:
            raise ValueError(f"sinusoidal_encoding: {name} must not be negative, got {sizes[-1]}")
    length, dim = sizes
    try:
        base = float(base)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"sinusoidal_encoding: base must be a number, got {base!r}") from None
    if not (base > 0.0 and math.isfinite(base)):
        raise ValueError(f"sinusoidal_encoding: base must be positive and finite, got {base}")
    result_dtype = _float_dtype(dtype)
    angles = np.arange(length)[:, None] / base ** (np.arange(0, dim, 2) / max(dim, 1))
    encoding = np.empty((length, dim), result_dtype)
    encoding[:, 0::2] = np.sin(angles)
    encoding[:, 1::2] = np.cos(angles[:, : dim // 2])
    return encoding
