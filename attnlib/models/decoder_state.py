"""Keys and values of the tokens that a decoder has seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["DecoderState"]


class DecoderState:
    """Keys and values of L layers, for B sequences of different lengths, in arrays made once.

    Parameters
    ----------
    layers, batch, heads, head_dim
        L, B, key/value heads G and their size D.
    capacity
        The most tokens N that a sequence may have.
    dtype
        Of keys and values.

    Attributes
    ----------
    lengths : (B,)
        Tokens of each sequence so far.
    """

    def __init__(
        self, layers: int, batch: int, heads: int, head_dim: int, capacity: int, dtype: np.dtype[Any]
    ) -> None:
        self.keys = [np.empty((batch, heads, capacity, head_dim), dtype) for _ in range(layers)]
        self.values = [np.empty((batch, heads, capacity, head_dim), dtype) for _ in range(layers)]
        self.lengths = np.zeros(batch, np.intp)

    def row(self, index: int) -> DecoderState:
        """View sequence `index` alone; what is added to it is added here."""
        view = object.__new__(DecoderState)
        part = slice(index, index + 1)
        view.keys = [keys[part] for keys in self.keys]
        view.values = [values[part] for values in self.values]
        view.lengths = self.lengths[part]
        return view

    def copy_prefix(self, source: int, target: int, length: int) -> None:
        """Let sequence `target` begin with the first `length` tokens of sequence `source`."""
        for store in (*self.keys, *self.values):
            store[target, :, :length] = store[source, :, :length]
        self.lengths[target] = length

    def take(self, rows: Sequence[int]) -> DecoderState:
        """Copy these sequences, any of them any number of times, into a new state."""
        copy = object.__new__(DecoderState)
        copy.keys = [keys[list(rows)] for keys in self.keys]
        copy.values = [values[list(rows)] for values in self.values]
        copy.lengths = self.lengths[list(rows)]
        return copy

    def append(self, layer: int, key: NDArray[Any], value: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Store keys and values (B, G, S, D) of a layer behind the present ones; view all, (B, G, N', D)."""
        count = key.shape[2]
        for row, length in enumerate(self.lengths.tolist()):
            self.keys[layer][row, :, length : length + count] = key[row]
            self.values[layer][row, :, length : length + count] = value[row]
        end = int(self.lengths.max()) + count
        return self.keys[layer][:, :, :end], self.values[layer][:, :, :end]

    def advance(self, count: int) -> None:
        """Count `count` more tokens, once all layers have stored theirs."""
        self.lengths += count
