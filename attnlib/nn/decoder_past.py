"""What a decoder that reads a memory keeps between steps: its own past, and the memory's keys and values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.nn.kv_cache import KVCache

__all__ = ["DecoderPast"]


class DecoderPast:
    """Two caches side by side, as the decoder of an encoder-decoder needs them.

    Self-attention adds to `target` with each step. Cross-attention only reads `memory`: the keys and values
    of what the encoder made, computed once.

    Parameters
    ----------
    target
        Keys and values of the tokens written so far, for B sequences.
    memory
        Keys and values of the memory, for the same layers: of B sequences, or of one that all read. That is
        so with beams, which then share its bytes.

    Raises
    ------
    ValueError
        If the caches do not fit each other.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> target, memory = nn.KVCache(1, 2, 4, 8), nn.KVCache(1, 2, 4, 8)
    >>> keys, values, lengths = memory.append(0, *np.ones((2, 2, 4, 5, 8), np.float32))
    >>> past = nn.DecoderPast(target, memory)
    >>> past.reorder([1, 1, 1])
    >>> past.batch_size, past.memory.batch_size, past.positions.tolist()
    (3, 1, [0, 0, 0])
    """

    def __init__(self, target: KVCache, memory: KVCache) -> None:
        if target.num_layers != memory.num_layers:
            raise ValueError(
                f"DecoderPast: target has {target.num_layers} layers, memory has {memory.num_layers}"
            )
        if memory.batch_size not in (1, target.batch_size):
            raise ValueError(
                f"DecoderPast: memory has {memory.batch_size} sequences, expected 1 or the "
                f"{target.batch_size} of target"
            )
        self.target = target
        self.memory = memory

    @property
    def batch_size(self) -> int:
        """The number of sequences B."""
        return self.target.batch_size

    @property
    def num_layers(self) -> int:
        """The number of layers."""
        return self.target.num_layers

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where the next token of each sequence stands, (B,)."""
        return self.target.positions

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, also of those shared with a fork."""
        return self.target.nbytes + self.memory.nbytes

    def reorder(self, indices: ArrayLike) -> None:
        """Make sequence i what sequence ``indices[i]`` was; B becomes ``len(indices)``.

        Sequences that all read one memory go on sharing it, and nothing of it is copied.
        """
        self.target.reorder(indices)
        if self.memory.batch_size == 1:
            return
        rows = np.asarray(indices)
        if len({*rows.tolist()}) == 1:
            self.memory.reorder(rows[:1])
        else:
            self.memory.reorder(rows)

    def fork(self, n: int) -> list[DecoderPast]:
        """Make `n` pasts that go on from this one, sharing its arrays until one of them is written."""
        pairs = zip(self.target.fork(n), self.memory.fork(n), strict=True)
        return [DecoderPast(target, memory) for target, memory in pairs]

    @classmethod
    def join(cls, pasts: Sequence[DecoderPast]) -> DecoderPast:
        """Make one past of all sequences of several, which must be of the same model."""
        if not pasts:
            raise ValueError("DecoderPast.join: there are no pasts")
        memories = []
        for past in pasts:
            (memory,) = past.memory.fork(1)
            if memory.batch_size != past.batch_size:
                memory.reorder([0] * past.batch_size)
            memories.append(memory)
        return cls(KVCache.join([past.target for past in pasts]), KVCache.join(memories))
