"""Keeping the weights of every attention that is computed, in layers and models of any kind.

Letters: H heads, Sq queries, Sk keys, G key/value heads.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from operator import index
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.functional import AttentionCall, attention, observe_attention
from attnlib.viz.attention_maps import AttentionMaps, Kind

__all__ = ["LayerRecorder", "record_attention"]


@contextmanager
def record_attention() -> Iterator[list[NDArray[Any]]]:
    """Keep the weights of each attention in the block, in the order in which they are computed.

    Yields
    ------
    list of (..., H, Sq, Sk) ndarray
        It grows as the block goes on; one entry for each call of `attnlib.attention`, and for each sequence
        of `attnlib.attention_varlen`, made by this thread, in layers and models too. The weights are those
        of the call, in its dtype, from the same queries, keys and options; its result is not touched.

    Notes
    -----
    Each entry takes O(Sq Sk) memory. For long texts see `attention_statistics`.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn, viz
    >>> encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3)
    >>> with viz.record_attention() as weights:
    ...     out = encoder(np.zeros((5, 8), np.float32), causal=True)
    >>> len(weights), weights[0].shape
    (3, (2, 5, 5))
    >>> weights[0][0, 1].tolist()
    [0.5, 0.5, 0.0, 0.0, 0.0]
    """
    kept: list[NDArray[Any]] = []
    with observe_attention(lambda call: kept.append(_weights(call))):
        yield kept


class LayerRecorder:
    """An observer that keeps the weights of one sequence, layer by layer, of some layers or all.

    Parameters
    ----------
    layers
        The number of one layer to keep, or of several. Default: all.
    """

    def __init__(self, layers: int | Collection[int] | None = None) -> None:
        several = [layers] if isinstance(layers, (int, np.integer)) else layers
        self._wanted: frozenset[int] | None = None if several is None else frozenset(map(index, several))
        self._seen = 0
        self._kept: dict[int, NDArray[np.float32]] = {}

    def __call__(self, call: AttentionCall) -> None:
        """Take the attention of the next layer."""
        if self._wanted is None or self._seen in self._wanted:
            weights = _weights(call).astype(np.float32, copy=False)
            self._kept[self._seen] = weights.reshape(weights.shape[-3:])
        self._seen += 1

    def maps(self, queries: Sequence[str], keys: Sequence[str], kind: Kind) -> AttentionMaps:
        """Make maps of what was kept.

        Raises
        ------
        ValueError
            If a layer that was wanted was not there.
        """
        missing = sorted((self._wanted or frozenset()) - set(self._kept))
        if missing:
            raise ValueError(f"attention_weights: there is no layer {missing[0]}, but 0 to {self._seen - 1}")
        if not self._kept:
            raise ValueError("attention_weights: no layer is asked for, or the model has none")
        stacked = np.stack(list(self._kept.values()))
        return AttentionMaps(stacked, queries, keys, kind, tuple(self._kept))


def _weights(call: AttentionCall) -> NDArray[Any]:
    # Values do not matter to the weights: they may have no features.
    value = np.empty((*call.key.shape[:-1], 0), call.key.dtype)
    weights: NDArray[Any] = attention(call.query, call.key, value, return_weights=True, **call.options)[1]
    return weights
