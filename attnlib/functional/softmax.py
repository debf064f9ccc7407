"""Softmax over one axis."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from attnlib import _core

__all__ = ["log_softmax", "softmax"]


def softmax(
    x: ArrayLike,
    axis: int = -1,
    *,
    mask: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Softmax along one axis, ``exp(x) / sum(exp(x))``.

    Parameters
    ----------
    x
        Array of one or more axes and any strides: float32, float64, float16 or bfloat16 (the last two are
        computed in float32 and rounded once).
    axis
        The axis that sums to one. Default: the last.
    mask
        Boolean array, broadcastable to x's shape. True: the element takes part. False: it gives exactly 0,
        and what it holds, be it NaN, changes nothing. Default: all take part.
    out
        Array of x's shape and dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape and dtype of `x`. A row that is all masked or ``-inf`` gives zeros. As in NumPy, NaN or ``+inf``
        among the elements that take part makes these, in that row alone, NaN.

    Raises
    ------
    TypeError
        If `x` is of another dtype, `mask` not boolean, or `out` not of x's dtype.
    ValueError
        If `axis` is out of range, `mask` does not broadcast to `x`, or `out` is read-only or not of x's
        shape.

    Examples
    --------
    >>> import numpy as np
    >>> softmax(np.array([0.0, np.log(3.0)]))
    array([0.25, 0.75])
    >>> softmax(np.array([[1.0, 2.0], [3.0, 3.0]]), mask=np.array([[False, False], [True, True]]))
    array([[0. , 0. ],
           [0.5, 0.5]])
    """
    return _core.softmax(x, axis, mask, out)


def log_softmax(x: ArrayLike, axis: int = -1, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Logarithm of the softmax along one axis, ``x - log(sum(exp(x)))``, without its underflow.

    Parameters
    ----------
    x
        Array of one or more axes and any strides: float32, float64, float16 or bfloat16 (the last two are
        computed in float32 and rounded once).
    axis
        The axis whose exponentials sum to one. Default: the last.
    out
        Array of x's shape and dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape and dtype of `x`. A row that is all ``-inf`` gives zeros, never NaN; ``-inf`` in another row
        stays ``-inf``. As in NumPy, NaN or ``+inf`` makes its row, and no other, NaN.

    Raises
    ------
    TypeError
        If `x` is of another dtype, or `out` not of x's.
    ValueError
        If `axis` is out of range, or `out` is read-only or not of x's shape.

    Examples
    --------
    >>> import numpy as np
    >>> log_softmax(np.array([0.0, np.log(3.0)])).round(4)
    array([-1.3863, -0.2877])
    """
    return _core.log_softmax(x, axis, out)
