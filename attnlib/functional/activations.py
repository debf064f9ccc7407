"""Activations: elementwise functions of any array."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from attnlib import _core

__all__ = ["gelu", "relu", "sigmoid", "silu", "swiglu", "tanh"]


def relu(x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Rectified linear unit, ``max(x, 0)``.

    Parameters
    ----------
    x
        Array of any shape and strides: float32, float64, float16 or bfloat16.
    out
        Array of x's shape and dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape and dtype of `x`. NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` is of another dtype, or `out` not of x's.
    ValueError
        If `out` is read-only or not of x's shape.

    Examples
    --------
    >>> import numpy as np
    >>> relu(np.array([-1.0, 0.0, 2.0]))
    array([0., 0., 2.])
    """
    return _core.relu(x, out)


def gelu(x: ArrayLike, approximate: str = "none", *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Gaussian error linear unit, ``x * Phi(x)``, Phi being the standard normal distribution function.

    D. Hendrycks and K. Gimpel, "Gaussian Error Linear Units", 2016 (arXiv:1606.08415).

    Parameters
    ----------
    x
        Array of any shape and strides: float32, float64, float16 or bfloat16.
    approximate
        ``"none"`` (default): exact. ``"tanh"``: the paper's approximation,
        ``x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))``, which some models were trained with.
    out
        Array of x's shape and dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape and dtype of `x`. Far negative values keep their relative accuracy (``1 + erf`` would cancel).
        As in PyTorch, ``+inf`` gives ``inf``, ``-inf`` gives NaN (``-inf * 0``), and NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` is of another dtype, or `out` not of x's.
    ValueError
        If `approximate` is something else, or `out` is read-only or not of x's shape.

    Examples
    --------
    >>> import numpy as np
    >>> gelu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.1587,  0.    ,  0.8413])
    >>> gelu(np.array([-1.0, 0.0, 1.0]), approximate="tanh").round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    return _core.gelu(x, approximate, out)


def silu(x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Sigmoid linear unit (swish), ``x * sigmoid(x)``.

    Parameters
    ----------
    x
        Array of any shape and strides: float32, float64, float16 or bfloat16.
    out
        Array of x's shape and dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape and dtype of `x`. As in PyTorch, ``+inf`` gives ``inf``, ``-inf`` gives NaN (``-inf * 0``), and
        NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` is of another dtype, or `out` not of x's.
    ValueError
        If `out` is read-only or not of x's shape.

    Examples
    --------
    >>> import numpy as np
    >>> silu(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.2689,  0.    ,  0.7311])
    """
    return _core.silu(x, out)


def tanh(x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Hyperbolic tangent.

    Parameters
    ----------
    x
        Array of any shape and strides: float32, float64, float16 or bfloat16.
    out
        Array of x's shape and dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape and dtype of `x`. Infinities give -1 and 1, and NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` is of another dtype, or `out` not of x's.
    ValueError
        If `out` is read-only or not of x's shape.

    Examples
    --------
    >>> import numpy as np
    >>> tanh(np.array([-1.0, 0.0, 1.0])).round(4)
    array([-0.7616,  0.    ,  0.7616])
    """
    return _core.tanh(x, out)


def sigmoid(x: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Logistic function, ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x
        Array of any shape and strides: float32, float64, float16 or bfloat16.
    out
        Array of x's shape and dtype to write to; may be `x` itself. Default: a new array.

    Returns
    -------
    NDArray
        Shape and dtype of `x`. ``-inf`` gives 0, ``+inf`` gives 1, and NaN stays NaN.

    Raises
    ------
    TypeError
        If `x` is of another dtype, or `out` not of x's.
    ValueError
        If `out` is read-only or not of x's shape.

    Examples
    --------
    >>> import numpy as np
    >>> sigmoid(np.array([-1.0, 0.0, 1.0])).round(4)
    array([0.2689, 0.5   , 0.7311])
    """
    return _core.sigmoid(x, out)


def swiglu(gate: ArrayLike, up: ArrayLike, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """SwiGLU's gated unit, ``silu(gate) * up``.

    N. Shazeer, "GLU Variants Improve Transformer", 2020 (arXiv:2002.05202).

    Parameters
    ----------
    gate, up
        Arrays of any strides, whose shapes broadcast: float32, float64, float16 or bfloat16.
    out
        Array of the broadcast shape and the promoted dtype to write to; may be `gate` or `up` itself.
        Default: a new array.

    Returns
    -------
    NDArray
        The shape that `gate` and `up` broadcast to, in the dtype that they promote to.

    Raises
    ------
    TypeError
        If an input is of another dtype, or `out` not of the promoted one.
    ValueError
        If the shapes do not broadcast, or `out` is read-only or of another shape.

    Examples
    --------
    >>> import numpy as np
    >>> swiglu(np.array([-1.0, 0.0, 1.0]), np.array([2.0, 2.0, 2.0])).round(4)
    array([-0.5379,  0.    ,  1.4621])
    """
    return _core.swiglu(gate, up, out)
