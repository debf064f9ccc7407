"""What decoder-only language models have in common, and attention to the past."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib._core import decode_chunk, decode_least_keys
from attnlib.functional import attention, rotary_embedding
from attnlib.models.families.token_model import TokenModel

__all__ = ["Decoder", "Turns", "attend"]


@dataclass(frozen=True)
class Turns:
    """What rotary position embedding needs to know of a pass.

    Parameters
    ----------
    cos, sin : (max_position, R / 2)
        Tables.
    positions : (B, S), optional
        Where the tokens stand. Default: 0 to S - 1.
    """

    cos: NDArray[Any]
    sin: NDArray[Any]
    positions: NDArray[np.integer[Any]] | None = None


def attend(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    cache: nn.KVCache | None,
    layer: int,
    window: int | None = None,
    *,
    turns: Turns | None = None,
    bias: NDArray[Any] | None = None,
    scale: float | None = None,
) -> NDArray[Any]:
    """Attend causally to the tokens of this pass and those in `cache`: (B, H, S, D) to (B, S, H * D).

    Parameters
    ----------
    query : (B, H, S, D)
    key, value : (B, G, S, D)
    cache
        What came before; the new keys and values are added to it.
    layer
        Whose keys and values to take from it.
    window
        How many tokens a query sees, itself included. Default: all.
    turns
        Turn queries and keys by their positions first. Default: do not.
    bias, scale
        As in `attnlib.attention`.
    """
    batch, heads, count, size = query.shape
    if cache is not None and bias is None:
        cos, sin, positions = (None, None, None) if turns is None else (turns.cos, turns.sin, turns.positions)
        out = cache.attend(
            layer, query, key, value, cos=cos, sin=sin, positions=positions, window=window, scale=scale
        )
        return out.reshape(batch, count, heads * size)
    if turns is not None:
        query, key = (
            rotary_embedding(x, turns.cos, turns.sin, positions=turns.positions) for x in (query, key)
        )
    lengths = None
    if cache is not None:
        key, value, lengths = cache.append(layer, key, value)
    # Heads are written beside each other, so that what follows needs no copy.
    out = np.empty((batch, count, heads, size), query.dtype)
    attention(
        query,
        key,
        value,
        bias=bias,
        causal=True,
        window=None if window is None else (window - 1, None),
        key_lengths=lengths,
        scale=scale,
        out=out.swapaxes(1, 2),
    )
    return out.reshape(batch, count, heads * size)


class Decoder(TokenModel):
    """Base class of the decoder families: token numbers in, logits out.

    Attributes
    ----------
    window
        How many tokens a query sees in every layer, itself included. None: all, or not as many in all layers.
    """

    window: int | None = None

    @abstractmethod
    def hidden(self, ids: NDArray[np.intp], cache: nn.KVCache | None = None) -> NDArray[Any]:
        """Compute the last hidden states of `ids`, (B, S) to (B, S, d), after what is in `cache`."""

    def cache(self, batch: int, capacity: int) -> nn.KVCache:
        """Make an empty cache with room for `capacity` tokens of each of `batch` sequences.

        If no layer sees farther than `window`, older tokens are evicted and there is less room.
        """
        if self.window is None:
            return super().cache(batch, capacity)
        # So that eviction moves no bits, evicted tokens are multiples of the chunks in which attention sums
        # keys, and so many stay that it does not take its plan for few keys.
        window = max(self.window, decode_least_keys + 1)
        return nn.KVCache(
            self.num_layers,
            batch,
            self.num_key_value_heads,
            self.head_dim,
            capacity=min(capacity, window + 2 * decode_chunk),
            window=window,
            evict_by=decode_chunk,
            dtype=self.dtype,
        )

    def __call__(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Compute the logits of the token after each of `ids`.

        Parameters
        ----------
        ids : (B, S) integers

        Returns
        -------
        (B, S, V) float32 ndarray

        Raises
        ------
        TypeError, ValueError
            If `ids` is no such array, empty, too long, or holds an unknown token.
        """
        return self.logits(self.hidden(self.check_targets(type(self).__name__, ids)))
