"""A stack of decoder layers in one call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import _core
from attnlib._core import PackedWeight

__all__ = ["DecoderLayerParts", "DecoderLayerPast", "decoder_layers"]


class DecoderLayerParts(NamedTuple):
    """What one layer of a decoder consists of.

    Letters: E features of a token, F inner features, H heads. Biases, and the weights of norms, may be None.

    Attributes
    ----------
    in_proj, in_bias : PackedWeight (3 * E, E), array_like (3 * E,) or None
        Of queries, keys and values of self-attention.
    out_proj, out_bias : PackedWeight (E, E), array_like (E,) or None
    query_proj, query_bias : PackedWeight (E, E), array_like (E,) or None
        Of the queries of cross-attention.
    memory_out_proj, memory_out_bias : PackedWeight (E, E), array_like (E,) or None
    linear1, linear1_bias : PackedWeight (F, E), array_like (F,) or None
    linear2, linear2_bias : PackedWeight (E, F), array_like (E,) or None
    norm1_weight, norm1_bias, norm1_eps : array_like (E,) or None, twice; float
        Of self-attention; `norm2` of cross-attention, `norm3` of the network.
    norm2_weight, norm2_bias, norm2_eps : array_like (E,) or None, twice; float
    norm3_weight, norm3_bias, norm3_eps : array_like (E,) or None, twice; float
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
    query_proj: PackedWeight
    query_bias: ArrayLike | None
    memory_out_proj: PackedWeight
    memory_out_bias: ArrayLike | None
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
    norm3_weight: ArrayLike | None
    norm3_bias: ArrayLike | None
    norm3_eps: float
    heads: int
    activation: str | None
    norm_first: bool


class DecoderLayerPast(NamedTuple):
    """What one layer has computed before: keys and values of earlier tokens, and of the memory.

    Letters: B sequences, H heads of size D, Sm places of the memory.

    Attributes
    ----------
    key_cache, value_cache : ndarray, shape (B, H, capacity, D)
        Of earlier tokens, with room for the new ones; they are changed.
    lengths : array_like of integers, shape (B,)
        Tokens that they hold.
    key, value : array_like, shape (B, H, Sm, D) or (1, H, Sm, D)
        Of the memory: one for each sequence, or one for all. Read in place if contiguous along the last axis.
    memory_lengths : array_like of integers, shape (B,) or (1,)
        Places of each memory that are valid.
    """

    key_cache: NDArray[Any]
    value_cache: NDArray[Any]
    lengths: NDArray[np.integer[Any]]
    key: ArrayLike
    value: ArrayLike
    memory_lengths: NDArray[np.integer[Any]]


def decoder_layers(
    x: ArrayLike, layers: Iterable[DecoderLayerParts], pasts: Iterable[DecoderLayerPast]
) -> NDArray[Any]:
    """Give new tokens through a stack of decoder layers (Vaswani et al., 2017), a step of generating.

    The same bits as `linear`, `cached_attention`, `linear` and `layer_norm`, then `linear`, `attention`,
    `linear` and `layer_norm`, then `linear` twice and `layer_norm`, for one layer after the other. For a
    token each of them is over so soon that calling it from Python, and waking a thread for it, takes as
    long: here threads are woken once and stay together. Letters: B sequences, S new tokens, E features.

    Parameters
    ----------
    x : array_like, shape (B, S, E)
        The new tokens of each sequence; each attends to itself, those before it, and the memory.
    layers : iterable of DecoderLayerParts
        At least one.
    pasts : iterable of DecoderLayerPast
        One for each layer. The new keys and values are written behind those that `lengths` count.

    Returns
    -------
    ndarray, shape (B, S, E)
        Of the dtype that `x`, the layers' arrays and float weights promote to.

    Raises
    ------
    TypeError
        If an array is not of a float dtype, a weight is not packed, float64 meets a weight that is packed
        otherwise, or a past is of another dtype than the result.
    ValueError
        If the shapes do not fit, the caches have no room, share memory with something else or cannot be
        written to, or an option is unknown. The tokens that the caches hold are then as they were.

    Notes
    -----
    `observe_attention` does not see into it; `nn.TransformerDecoder` takes its layers one by one where
    somebody observes.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> zeros = lambda *shape: al.pack_weight(np.zeros(shape, np.float32))
    >>> attention = (zeros(6, 2), None, zeros(2, 2), None, zeros(2, 2), None, zeros(2, 2), None)
    >>> network, norms = (zeros(3, 2), None, zeros(2, 3), None), (None, None, 0.0) * 3
    >>> layer = DecoderLayerParts(*attention, *network, *norms, heads=1, activation="relu", norm_first=False)
    >>> key_cache, value_cache = np.zeros((2, 1, 1, 4, 2), np.float32)
    >>> memory = np.ones((1, 1, 3, 2), np.float32)
    >>> past = DecoderLayerPast(key_cache, value_cache, [0], memory, memory, [3])
    >>> decoder_layers(np.array([[[1, 3]]], np.float32), [layer], [past])
    array([[[-1.,  1.]]], dtype=float32)
    """
    layers, pasts = tuple(layers), tuple(pasts)
    for name, kind, given in (("layers", DecoderLayerParts, layers), ("pasts", DecoderLayerPast, pasts)):
        for index, item in enumerate(given):
            if not isinstance(item, kind):
                raise TypeError(
                    f"decoder_layers: {name}[{index}] must be {kind.__name__}, got {type(item).__name__}"
                )
    return _core.decoder_layers(x, layers, pasts)
