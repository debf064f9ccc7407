"""What decoder-only language models have in common, and attention to the past."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib.functional import attention
from attnlib.models.token_model import TokenModel

__all__ = ["Decoder", "attend"]


def attend(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    cache: nn.KVCache | None,
    layer: int,
    window: int | None = None,
    *,
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
    bias, scale
        As in `attnlib.attention`.
    """
    batch, heads, count, size = query.shape
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
    """Base class of the decoder families: token numbers in, logits out."""

    @abstractmethod
    def hidden(self, ids: NDArray[np.intp], cache: nn.KVCache | None = None) -> NDArray[Any]:
        """Compute the last hidden states of `ids`, (B, S) to (B, S, d), after what is in `cache`."""

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
