"""Matrix products and linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from attnlib import _core
from attnlib._core import PackedWeight

__all__ = ["PackedWeight", "linear", "linear_in_parts", "matmul", "pack_weight"]


def matmul(a: npt.ArrayLike, b: npt.ArrayLike, /, *, out: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Matrix product, as `numpy.matmul`.

    Every element of the result is summed in the order of K by one accumulator, so its bits depend on its own
    row of ``a`` and column of ``b`` alone, and on the instruction set in use.

    Parameters
    ----------
    a : array_like, shape (..., M, K) or (K,)
        Left operand; a transposed view is copied once.
    b : array_like, shape (..., K, N) or (K,)
        Right operand, any strides. Leading axes broadcast against those of ``a``.
    out : ndarray, shape (..., M, N), optional
        Where to put the result.

    Returns
    -------
    ndarray, shape (..., M, N)
        Without the M (N) axis if ``a`` (``b``) has one axis; two of those give a scalar.

    Raises
    ------
    TypeError
        For an argument that is not float32, float64, float16 or bfloat16.
    ValueError
        If the shapes do not fit, or ``out`` has another shape or is read-only.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> al.matmul(np.eye(2, 3), np.arange(6.0).reshape(3, 2))
    array([[0., 1.],
           [2., 3.]])
    """
    return _core.matmul(a, b, out)


def linear(
    x: npt.ArrayLike,
    weight: npt.ArrayLike | PackedWeight,
    bias: npt.ArrayLike | None = None,
    *,
    activation: str | None = None,
    residual: npt.ArrayLike | None = None,
    out: npt.NDArray[Any] | None = None,
) -> npt.NDArray[Any]:
    """``activation(x @ weight.T + bias) + residual`` in one pass over the result.

    Bias, activation and residual are applied in the compute dtype (float32; float64 for float64) to the tile
    that the product has just finished; the result is rounded to its dtype once.

    Parameters
    ----------
    x : array_like, shape (..., in_features)
        Input rows.
    weight : array_like or PackedWeight, shape (out_features, in_features)
        As in `torch.nn.Linear`. A `PackedWeight` saves laying it out again on every call.
    bias : array_like, shape (out_features,), optional
        Added to every row.
    activation : {None, "relu", "gelu", "gelu_tanh", "silu", "tanh"}
        Applied to the sum; ``"gelu"`` is the exact one, ``"gelu_tanh"`` its approximation.
    residual : array_like, broadcastable to (..., out_features), optional
        Added after the activation.
    out : ndarray, shape (..., out_features), optional
        Where to put the result; may be ``residual``.

    Returns
    -------
    ndarray, shape (..., out_features)
        Of the dtype that ``x``, ``weight``, ``bias`` and ``residual`` promote to.

    Raises
    ------
    TypeError
        For an argument that is not float32, float64, float16 or bfloat16.
    ValueError
        If the shapes do not fit, or the activation is unknown.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> x, weight = np.array([[1.0, -2.0]]), np.array([[3.0, 1.0], [1.0, 1.0]])
    >>> al.linear(x, weight, np.array([0.5, 0.5]), activation="relu", residual=np.ones((1, 2)))
    array([[2.5, 1. ]])
    """
    return _core.linear(x, weight, bias, activation, residual, out)


def linear_in_parts(
    x: npt.ArrayLike, weights: Sequence[PackedWeight], *, out: npt.NDArray[Any] | None = None
) -> npt.NDArray[Any]:
    """Multiply with a weight that lies in parts: ``x @ concatenate(weights).T``.

    For a weight that is too large to be packed at once, such as the vocabulary's. Threads share the parts,
    each of which may be too small to be worth more than one.

    Parameters
    ----------
    x : array_like, shape (..., in_features)
        Input rows.
    weights : sequence of PackedWeight, shapes (out_features_i, in_features)
        The parts, the rows of one below those of the other.
    out : ndarray, shape (..., sum of out_features_i), optional
        Where to put the result.

    Returns
    -------
    ndarray, shape (..., sum of out_features_i)
        Of the dtype that `x` and float weights promote to.

    Raises
    ------
    TypeError
        For an `x` that is not of a float dtype, or where float64 meets a weight that is packed otherwise.
    ValueError
        If there are no weights, or the shapes do not fit.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> from attnlib.functional import linear_in_parts
    >>> parts = [al.pack_weight(np.full((rows, 2), float(rows))) for rows in (1, 2)]
    >>> linear_in_parts(np.array([[3.0, 5.0]]), parts)
    array([[ 8., 16., 16.]])
    """
    return _core.linear_in_parts(x, weights, out)


def pack_weight(
    weight: npt.ArrayLike, *, dtype: npt.DTypeLike | None = None, group_size: int | None = None
) -> PackedWeight:
    """Lay a weight out for the kernels in use, once, for use in `linear`.

    Parameters
    ----------
    weight : array_like, shape (out_features, in_features)
        As in `torch.nn.Linear`.
    dtype : dtype, optional
        What to store; by default the weight's own dtype. ``"float32"``, ``"float64"``, ``"float16"`` and
        ``"bfloat16"`` round to nearest. ``"int8"`` stores 8 bits: ``scale[row] * balance[column] * q``
        with q in -127..127, and `linear` quantises each row of its input to 8 bits on the fly. ``"int4"``
        stores 4 bits: each group of a row as ``scale * q + minimum`` with q in 0..15, for a few input rows
        (decoding), whose groups `linear` quantises to 8 bits.
    group_size : {32, 64, 128}, optional
        Weights of a row that share a scale and a minimum; for ``"int4"`` alone. Default 32, which is 5 bits
        for each weight; 64 are 4.5. The last group of a row may be shorter.

    Returns
    -------
    PackedWeight
        With ``shape``, ``dtype``, ``nbytes`` and ``unpack()``, which gives the stored values back as an
        array (of float32, if they are quantised). It pickles; unpickling lays the weight out for the kernels
        of that process.

    Raises
    ------
    TypeError
        For a weight or a dtype that is not one of the above.
    ValueError
        If the weight is not two-dimensional, or for int8 and int4: holds NaN or infinities, or values beyond
        the range of float16 (int4), or has more than 65,536 in_features.

    Notes
    -----
    An int8 weight errs by at most half its scale, ``max(abs(row / balance)) * balance / 254``; the balance
    evens out how large the columns are (the input's columns are multiplied by it). An int4 weight errs by
    about ``(max - min) / 30`` of its group; one huge value makes the error of its whole row (group) large,
    rows and groups of zeros stay zero. Sums of int8 products are exact integers, so that results have the
    same bits on every instruction set (up to a transcendental activation). A row of the input that holds NaN
    or an infinity gives a row of NaN, and reaches no other row. Input values of a row (int4: of a group) that
    are less than 1/510 (int4: 1/254) of its range count as zero; the range of int8 leaves out the two largest
    values where they stretch it by a quarter or more, which are then multiplied on their own.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> packed = al.pack_weight(np.ones((4, 3), np.float32), dtype="bfloat16")
    >>> packed.shape, str(packed.dtype)
    ((4, 3), 'bfloat16')
    >>> al.linear(np.ones((1, 3), np.float32), packed)
    array([[3., 3., 3., 3.]], dtype=float32)
    >>> al.pack_weight(np.array([[0.5, -1.27], [-0.5, 1.27]]), dtype="int8").unpack().round(2)
    array([[ 0.5 , -1.27],
           [-0.5 ,  1.27]], dtype=float32)
    """
    return _core.pack_weight(weight, dtype, group_size)
