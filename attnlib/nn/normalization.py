"""Layers that normalise: layer norm and RMS norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array, optional_array
from attnlib.functional import layer_norm, rms_norm
from attnlib.nn.initialisers import constant
from attnlib.nn.module import ArrayParameter, Module, check_size

__all__ = ["LayerNorm", "RMSNorm"]

_ones = partial(constant, value=1.0)
_zeros = partial(constant, value=0.0)


def _shape_of(layer: str, normalized_shape: int | Sequence[int]) -> tuple[int, ...]:
    shape = tuple(normalized_shape) if isinstance(normalized_shape, Sequence) else (normalized_shape,)
    if not shape:
        raise ValueError(f"{layer}: normalized_shape is empty")
    for size in shape:
        check_size(layer, normalized_shape=size)
    return shape


def _check(layer: str, name: str, array: NDArray[Any], shape: tuple[int, ...]) -> None:
    if array.shape[-len(shape) :] != shape:
        expected = f"(..., {', '.join(map(str, shape))})"
        raise ValueError(f"{layer}: {name} has shape {array.shape}, expected {expected}")


def _check_out(out: NDArray[Any], x: NDArray[Any]) -> None:
    """Check of `out` what `attnlib.layer_norm` cannot see once axes are folded; its dtype is seen there."""
    if not isinstance(out, np.ndarray):
        raise TypeError(f"LayerNorm: out must be a numpy.ndarray, got {type(out).__name__}")
    if out.shape != x.shape:
        raise ValueError(f"LayerNorm: out must have the result's shape {x.shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("LayerNorm: out is read-only")


def _fold(x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """`x` with the normalised axes as one, which is what the kernels work on."""
    return x.reshape(*x.shape[: x.ndim - len(shape)], math.prod(shape))


class LayerNorm(Module):
    """Layer normalisation (Ba, Kiros and Hinton, 2016): ``(x - mean) / sqrt(var + eps) * weight + bias``.

    Parameters
    ----------
    normalized_shape
        Size D of the last axis, or the sizes of the last axes that are normalised together.
    eps
        Added to the variance. Default 1e-5.
    elementwise_affine
        Whether there are a weight (at first ones) and a bias (zeros). Default True.
    bias
        Whether there is a bias, beside a weight. Default True.

    Attributes
    ----------
    weight, bias : normalized_shape, or None

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> nn.LayerNorm(2, eps=0.0)(np.array([[1.0, 3.0]]))
    array([[-1.,  1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
    ) -> None:
        self.normalized_shape = _shape_of("LayerNorm", normalized_shape)
        self.eps = eps
        self.weight = ArrayParameter(self.normalized_shape, _ones) if elementwise_affine else None
        self.bias = ArrayParameter(self.normalized_shape, _zeros) if elementwise_affine and bias else None

    def __call__(
        self, x: ArrayLike, *, residual: ArrayLike | None = None, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Normalise the last axes of `x`, or of ``x + residual``.

        Parameters
        ----------
        x : (..., D)
        residual : (..., D), optional
            Added to `x` first, and broadcast to it.
        out : (..., D), optional
            Receives the result; it may be `x`.

        Returns
        -------
        (..., D) ndarray

        Raises
        ------
        TypeError, ValueError
            As `attnlib.layer_norm`.
        """
        x = as_array("LayerNorm: x", x)
        weight = None if self.weight is None else self.weight.value
        bias = None if self.bias is None else self.bias.value
        _check("LayerNorm", "x", x, self.normalized_shape)
        if len(self.normalized_shape) == 1:
            return layer_norm(x, weight, bias, eps=self.eps, residual=residual, out=out)
        added = optional_array("LayerNorm: residual", residual)
        if added is not None:
            _check("LayerNorm", "residual", added, self.normalized_shape)
        if out is not None:
            _check_out(out, x)
        # Folded, an `out` of some strides is a copy.
        target = None if out is None else _fold(out, self.normalized_shape)
        result = layer_norm(
            _fold(x, self.normalized_shape),
            None if weight is None else weight.reshape(-1),
            None if bias is None else bias.reshape(-1),
            eps=self.eps,
            residual=None if added is None else _fold(added, self.normalized_shape),
            out=target,
        ).reshape(x.shape)
        if out is None:
            return result
        if not np.may_share_memory(result, out):
            out[...] = result
        return out


class RMSNorm(Module):
    """Root mean square normalisation (Zhang and Sennrich, 2019): ``x / sqrt(mean(x**2) + eps) * weight``.

    Parameters
    ----------
    normalized_shape
        Size D of the last axis, or the sizes of the last axes that are normalised together.
    eps
        Added to the mean square. Default None: the machine epsilon of the dtype that is computed in, which
        is float32 for float16 and bfloat16 inputs.
    elementwise_affine
        Whether there is a weight (at first ones). Default True.

    Attributes
    ----------
    weight : normalized_shape, or None

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> nn.RMSNorm(2, eps=0.0)(np.array([[3.0, 3.0]]))
    array([[1., 1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
    ) -> None:
        self.normalized_shape = _shape_of("RMSNorm", normalized_shape)
        self.eps = eps
        self.weight = ArrayParameter(self.normalized_shape, _ones) if elementwise_affine else None

    def __call__(self, x: ArrayLike) -> NDArray[Any]:
        """Normalise the last axes of `x`.

        Parameters
        ----------
        x : (..., D)

        Returns
        -------
        (..., D) ndarray

        Raises
        ------
        TypeError, ValueError
            As `attnlib.rms_norm`.
        """
        x = as_array("RMSNorm: x", x)
        weight = None if self.weight is None else self.weight.value
        eps = self.eps
        if eps is None:
            eps = float(np.finfo(np.float64 if x.dtype.type is np.float64 else np.float32).eps)
        _check("RMSNorm", "x", x, self.normalized_shape)
        if len(self.normalized_shape) == 1:
            return rms_norm(x, weight, eps=eps)
        folded = _fold(x, self.normalized_shape)
        return rms_norm(folded, None if weight is None else weight.reshape(-1), eps=eps).reshape(x.shape)
