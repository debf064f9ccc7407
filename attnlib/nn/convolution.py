"""Convolution along a sequence.

Letters: B batch, C in_channels, O out_channels, G groups, L steps, M steps of the result, K kernel_size.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import ArrayLike, NDArray

from attnlib.functional import PackedWeight, linear, pack_weight
from attnlib.nn.initialisers import Initialiser, uniform
from attnlib.nn.module import (
    ArrayParameter,
    Module,
    Parameter,
    as_float_array,
    check_size,
    packed_shapes,
)

__all__ = ["Conv1d"]

Array = NDArray[Any]


class ConvolutionParameter(Parameter[tuple[PackedWeight, ...]]):
    """The weight of a convolution, (O, C / G, K), kept as one packed (O / G, K * C / G) matrix a group."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        groups: int,
        initialise: Initialiser,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.groups = groups
        super().__init__(shape, initialise, rng)

    def hold(self, pieces: tuple[PackedWeight, ...]) -> None:
        """Take the groups' matrices."""
        self._held = pieces

    def accepts(self, pieces: tuple[Any, ...]) -> bool:
        """Return whether `pieces` are the groups' matrices."""
        out_channels, channels, kernel = self.shape
        return packed_shapes(pieces) == [(out_channels // self.groups, kernel * channels)] * self.groups

    def array(self) -> Array:
        """Unpack the weight."""
        out_channels, channels, kernel = self.shape
        rows = np.concatenate([weight.unpack() for weight in self.value])
        return np.ascontiguousarray(rows.reshape(out_channels, kernel, channels).swapaxes(1, 2))

    def _prepare(self, array: Array) -> tuple[PackedWeight, ...]:
        out_channels, channels, kernel = self.shape
        rows = array.swapaxes(1, 2).reshape(out_channels, kernel * channels)
        return tuple(pack_weight(part, dtype=self._dtype) for part in np.split(rows, self.groups))


class Conv1d(Module):
    """Convolution along a sequence (LeCun et al., 1989; for sequences to sequences Gehring et al., 2017).

    ``y[o, m] = bias[o] + sum over c, k of weight[o, c, k] * x[c, m * stride + k * dilation - padding]``: the
    same K weights look at every place, and all places at once, where a recurrent layer goes step by step.
    What limits it is the receptive field: a result sees ``(K - 1) * dilation + 1`` steps, n layers of stride
    1 see ``n * (K - 1) * dilation + 1``, and two things further apart never meet. Attention is the layer in
    which any two steps meet at once.

    Parameters
    ----------
    in_channels, out_channels
        Channels C before and O after.
    kernel_size
        Steps K that a result is made of.
    stride
        Steps between the windows of neighbouring results. Default 1.
    padding
        Zeros before the first and after the last step; ``"valid"`` is 0, and ``"same"``, for stride 1, as
        many as make M equal to L (of an odd number the larger half behind). Default 0.
    dilation
        Steps between the elements of a window. Default 1.
    groups
        The channels are cut into G groups, and each group of outputs sees its own group of inputs. C and O
        are multiples of it. Default 1.
    bias
        Whether there is a bias. Default True.
    padding_mode
        Only ``"zeros"``, the default.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them. Both are uniform in ``[-b, b)``, ``b = 1 / sqrt(C / G * K)``, as in
        PyTorch.

    Attributes
    ----------
    weight : (O, C / G, K)
    bias : (O,) or None

    Notes
    -----
    With the channels innermost, the K steps of a window lie one behind the other, and the windows are the
    rows of a matrix that overlap in memory: the convolution is `attnlib.linear` of a view, and nothing is
    unfolded. (With a dilation the windows are copied out.) So the result is computed as (B, M, O) and
    returned as its transposed view: the next `Conv1d` reads it as it lies, and ``y.swapaxes(1, 2)`` is a
    contiguous (B, M, O) array for the layers of a Transformer.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.Conv1d(1, 1, 3, padding="same")
    >>> layer.load_state_dict({"weight": np.array([[[-1.0, 0.0, 1.0]]]), "bias": np.zeros(1)})
    >>> layer(np.array([[[1.0, 2.0, 4.0, 8.0]]]))
    array([[[ 2.,  3.,  6., -4.]]])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int] | list[int],
        stride: int | tuple[int] | list[int] = 1,
        padding: int | tuple[int] | list[int] | str = 0,
        dilation: int | tuple[int] | list[int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_size("Conv1d", in_channels=in_channels, out_channels=out_channels)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _positive("kernel_size", kernel_size)
        self.stride = _positive("stride", stride)
        self.dilation = _positive("dilation", dilation)
        self.groups = _positive("groups", groups)
        if in_channels % self.groups or out_channels % self.groups:
            raise ValueError(
                f"Conv1d: in_channels {in_channels} and out_channels {out_channels} must be multiples of "
                f"groups {groups}"
            )
        if padding_mode != "zeros":
            raise ValueError(f"Conv1d: padding_mode must be 'zeros', got {padding_mode!r}")
        self.padding = self._both_sides(padding)
        channels = in_channels // self.groups
        terms = channels * self.kernel_size
        initialise = partial(uniform, bound=1 / math.sqrt(terms) if terms else 0.0)
        self.weight = ConvolutionParameter(
            (out_channels, channels, self.kernel_size), self.groups, initialise, rng
        )
        self.bias = ArrayParameter((out_channels,), initialise, rng) if bias else None

    def _both_sides(self, padding: int | tuple[int] | list[int] | str) -> tuple[int, int]:
        """Count the zeros before the first step and after the last."""
        if padding == "valid":
            return 0, 0
        if padding == "same":
            if self.stride != 1:
                raise ValueError(f"Conv1d: padding 'same' needs stride 1, got stride {self.stride}")
            both = self.dilation * (self.kernel_size - 1)
            return both // 2, both - both // 2
        if isinstance(padding, str):
            raise ValueError(f"Conv1d: padding must be an integer, 'valid' or 'same', got {padding!r}")
        size = _single("padding", padding)
        check_size("Conv1d", padding=size)
        return size, size

    def __call__(self, x: ArrayLike) -> Array:
        """Convolve.

        Parameters
        ----------
        x : (B, C, L) or (C, L)

        Returns
        -------
        (B, O, M) or (O, M) ndarray
            Of the dtype that `x` and the parameters promote to. ``M = (L + padding on both sides - dilation *
            (K - 1) - 1) // stride + 1``. It is a transposed view: contiguous along O.

        Raises
        ------
        TypeError
            If `x` is not float32, float64, float16 or bfloat16.
        ValueError
            If the shape of `x` does not fit, or a window is longer than the padded sequence.
        """
        array = as_float_array("Conv1d", "x", x)
        if array.ndim not in (2, 3) or array.shape[-2] != self.in_channels:
            raise ValueError(
                f"Conv1d: x has shape {array.shape}, expected (B, {self.in_channels}, L) or "
                f"({self.in_channels}, L)"
            )
        reach = self.dilation * (self.kernel_size - 1) + 1
        if (padded := array.shape[-1] + sum(self.padding)) < reach:
            raise ValueError(
                f"Conv1d: a window reaches over {reach} steps, more than the {padded} of x, shape "
                f"{array.shape}, with its padding"
            )
        steps = (array if array.ndim == 3 else array[None]).swapaxes(1, 2)
        channels = self.in_channels // self.groups
        results = self.out_channels // self.groups
        out: Array | None = None
        for group, weight in enumerate(self.weight.value):
            windows = self._windows(steps[..., group * channels : (group + 1) * channels])
            mine = slice(group * results, (group + 1) * results)
            bias = None if self.bias is None else self.bias.value[mine]
            if self.groups == 1:
                out = linear(windows, weight, bias)
            else:
                part = linear(windows, weight, bias)
                if out is None:
                    out = np.empty((*part.shape[:2], self.out_channels), part.dtype)
                out[..., mine] = part
        assert out is not None
        result: Array = out.swapaxes(1, 2)
        return result if array.ndim == 3 else result[0]

    def _windows(self, steps: Array) -> Array:
        """View (B, L, channels) as (B, M, K * channels): the window of each result as one row."""
        before, after = self.padding
        batch, length, channels = steps.shape
        padded = length + before + after
        if before or after:
            rows = np.empty((batch, padded, channels), steps.dtype)
            rows[:, :before] = 0
            rows[:, padded - after :] = 0
            _transpose_into(rows[:, before : padded - after], steps)
        elif steps.flags.c_contiguous:
            rows = steps
        else:
            rows = np.empty(steps.shape, steps.dtype)
            _transpose_into(rows, steps)
        count = (padded - self.dilation * (self.kernel_size - 1) - 1) // self.stride + 1
        # Not those of the array: NumPy leaves the stride of an axis of one element open.
        per_channel = steps.itemsize
        per_step = channels * per_channel
        per_batch = padded * per_step
        kernel = (self.kernel_size, per_step * self.dilation)
        windows = as_strided(
            rows,
            (batch, count, kernel[0], channels),
            (per_batch, per_step * self.stride, kernel[1], per_channel),
            writeable=False,
        )
        if self.dilation != 1:
            return windows.reshape(batch, count, kernel[0] * channels)
        return as_strided(
            windows,
            (batch, count, kernel[0] * channels),
            (per_batch, per_step * self.stride, per_channel),
            writeable=False,
        )


def _transpose_into(target: Array, steps: Array) -> None:
    """Copy (B, L, channels) into an array that is contiguous along the channels, in blocks that fit a cache.

    Where the source is contiguous along the steps, a plain copy would touch a new line for each element.
    """
    block = 64
    for start in range(0, steps.shape[1], block):
        target[:, start : start + block] = steps[:, start : start + block]


def _single(name: str, value: int | tuple[int] | list[int]) -> int:
    """Take the number of a tuple or list of one, as which PyTorch keeps and takes these."""
    if isinstance(value, (tuple, list)):
        if len(value) != 1:
            raise ValueError(f"Conv1d: {name} must be one integer, got {value!r}")
        return value[0]
    return value


def _positive(name: str, value: int | tuple[int] | list[int]) -> int:
    """Check a size that cannot be 0."""
    size = _single(name, value)
    check_size("Conv1d", **{name: size})
    if size == 0:
        raise ValueError(f"Conv1d: {name} must be at least 1, got 0")
    return size
