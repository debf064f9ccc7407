"""A stack of encoder layers in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from numpy.typing import ArrayLike, NDArray

from attnlib import _core
from attnlib._core import PackedWeight

__all__ = ["EncoderLayerParts", "encoder_layers"]


class EncoderLayerParts(NamedTuple):
    """What one layer of an encoder consists of.

    Letters: E features of a token, F inner features, H heads. Biases, and the weights of norms, may be None.

    Attributes
    ----------
    in_proj, in_bias : PackedWeight (3 * E, E), array_like (3 * E,) or None
        Of queries, keys and values.
    out_proj, out_bias : PackedWeight (E, E), array_like (E,) or None
    linear1, linear1_bias : PackedWeight (F, E), array_like (F,) or None
    linear2, linear2_bias : PackedWeight (E, F), array_like (E,) or None
    norm1_weight, norm1_bias, norm1_eps : array_like (E,) or None, twice; float
    norm2_weight, norm2_bias, norm2_eps : array_like (E,) or None, twice; float
    heads : int
        H, which divides E.
    activation : str or None
        One of those of `linear`.
    norm_first : bool
        Norms before attention and network instead of after their sums.
    """

    in_proj: PackedWeight
    in_bias: ArrayLike | None
    out_proj: PackedWeight
    out_bias: ArrayLike | None
    linear1: PackedWeight
    linear1_bias: ArrayLike | None
    linear2: PackedWeight
    linear2_bias: ArrayLike | None
    norm1_weight: ArrayLike | None
    norm1_bias: ArrayLike | None
    norm1_eps: float
    norm2_weight: ArrayLike | None
    norm2_bias: ArrayLike | None
    norm2_eps: float
    heads: int
    activation: str | None
    norm_first: bool


def encoder_layers(
    x: ArrayLike,
    layers: Iterable[EncoderLayerParts],
    cu_seqlens: ArrayLike,
    *,
    causal: bool = False,
) -> NDArray[Any]:
    """Give packed sequences through a stack of encoder layers (Vaswani et al., 2017).

    The same bits as `linear`, `attention_varlen`, `linear` and `layer_norm`, then `linear` twice and
    `layer_norm`, for one layer after the other. For a short text each of them is over so soon that calling it
    from Python, and waking a thread for it, takes as long: here threads are woken once and stay together.
    Letters: T tokens, N sequences, E features.

    Parameters
    ----------
    x : array_like, shape (T, E)
        N sequences, end to end.
    layers : iterable of EncoderLayerParts
        At least one.
    cu_seqlens : array_like of integers, shape (N + 1,)
        Sequence n is in rows ``cu_seqlens[n]`` to ``cu_seqlens[n + 1]``.
    causal
        Each token attends only to itself and those before it in its sequence. Default False.

    Returns
    -------
    ndarray, shape (T, E)
        Of the dtype that the arrays and float weights promote to.

    Raises
    ------
    TypeError
        If an array is not of a float dtype, a weight is not packed, or float64 meets a weight that is packed
        otherwise.
    ValueError
        If the shapes do not fit, the offsets do not rise from 0 to T, or an option is unknown.

    Notes
    -----
    `observe_attention` does not see into it; `nn.TransformerEncoder` takes its layers one by one where
    somebody observes.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> zeros = lambda *shape: al.pack_weight(np.zeros(shape, np.float32))
    >>> products = (zeros(6, 2), None, zeros(2, 2), None, zeros(3, 2), None, zeros(2, 3), None)
    >>> norms = (None, None, 0.0, None, None, 0.0)
    >>> layer = EncoderLayerParts(*products, *norms, heads=1, activation="relu", norm_first=False)
    >>> encoder_layers(np.array([[1, 3]], np.float32), [layer], [0, 1])
    array([[-1.,  1.]], dtype=float32)
    """
    layers = tuple(layers)
    for index, layer in enumerate(layers):
        if not isinstance(layer, EncoderLayerParts):
            raise TypeError(
                f"encoder_layers: layers[{index}] must be EncoderLayerParts, got {type(layer).__name__}"
            )
    return _core.encoder_layers(x, layers, cu_seqlens, causal)
