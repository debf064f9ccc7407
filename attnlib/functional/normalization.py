"""Layer norm and RMS norm over the last axis."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from attnlib import _core

__all__ = ["layer_norm", "rms_norm"]


def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    residual: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Layer normalisation over the last axis, ``(x - mean) / sqrt(var + eps) * weight + bias``.

    J. L. Ba, J. R. Kiros and G. E. Hinton, "Layer Normalization", 2016 (arXiv:1607.06450). The variance is
    the mean of the centred squares, found in a second pass, so that a large mean costs no accuracy.

    Parameters
    ----------
    x
        Array (..., D) of any strides: float32, float64, float16 or bfloat16 (the last two are computed in
        float32 and rounded once).
    weight, bias
        Arrays (D,). Default: ones and zeros.
    eps
        Added to the variance; not negative. Default 1e-5.
    residual
        Array of x's shape, or (..., D) broadcastable to it: ``x + residual`` is normalised. Default: none.
    out
        Array of x's shape and the promoted dtype to write to; may be `x` or `residual` itself. Default: a new
        array.

    Returns
    -------
    NDArray
        Shape of `x`, in the dtype that all inputs promote to.

    Raises
    ------
    TypeError
        If an input is of another dtype, or `out` not of the promoted one.
    ValueError
        If `x` has no axes, another array does not fit x's shape, `eps` is negative or NaN, or `out` is
        read-only.

    Examples
    --------
    >>> import numpy as np
    >>> layer_norm(np.array([[1.0, 2.0, 3.0]]), weight=np.array([1.0, 1.0, 2.0]), eps=0.0).round(4)
    array([[-1.2247,  0.    ,  2.4495]])
    """
    return _core.layer_norm(x, weight, bias, eps, residual, out)


def rms_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    eps: float = 1e-5,
    residual: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Root-mean-square normalisation over the last axis, ``x / sqrt(mean(x**2) + eps) * weight``.

    B. Zhang and R. Sennrich, "Root Mean Square Layer Normalization", 2019 (arXiv:1910.07467).

    Parameters
    ----------
    x
        Array (..., D) of any strides: float32, float64, float16 or bfloat16 (the last two are computed in
        float32 and rounded once).
    weight
        Array (D,). Default: ones.
    eps
        Added to the mean square; not negative. Default 1e-5.
    residual
        Array of x's shape, or (..., D) broadcastable to it: ``x + residual`` is normalised. Default: none.
    out
        Array of x's shape and the promoted dtype to write to; may be `x` or `residual` itself. Default: a new
        array.

    Returns
    -------
    NDArray
        Shape of `x`, in the dtype that all inputs promote to.

    Raises
    ------
    TypeError
        If an input is of another dtype, or `out` not of the promoted one.
    ValueError
        If `x` has no axes, another array does not fit x's shape, `eps` is negative or NaN, or `out` is
        read-only.

    Examples
    --------
    >>> import numpy as np
    >>> rms_norm(np.array([[3.0, 4.0]]), eps=0.0).round(4)
    array([[0.8485, 1.1314]])
    """
    return _core.rms_norm(x, weight, eps, residual, out)
