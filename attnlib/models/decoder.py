"""What decoder-only language models have in common: token table, vocabulary head, attention to the past."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib import nn
from attnlib.functional import PackedWeight, attention, linear, pack_weight
from attnlib.models.checkpoint import Checkpoint
from attnlib.models.memory import trim

__all__ = ["Decoder", "attend"]

# Rows of the vocabulary that are packed at a time: the whole matrix is often a third of a small model, and
# would have to lie unpacked beside it.
_HEAD_ROWS = 1024

# So that eviction moves no bits, evicted tokens are multiples of the chunks in which attention sums keys, and
# so many stay that it does not take its plan for few keys.
_EVICT_BY = 256
_LEAST_KEPT = 64

_WEIGHT_DTYPES = ("float32", "bfloat16", "int8", "int4")


def attend(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    cache: nn.KVCache | None,
    layer: int,
    window: int | None = None,
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
        causal=True,
        window=None if window is None else (window - 1, None),
        key_lengths=lengths,
        out=out.swapaxes(1, 2),
    )
    return out.reshape(batch, count, heads * size)


class Decoder(nn.Module):
    """Base class of the decoder families: token numbers in, logits out.

    Attributes
    ----------
    vocab_size, context_length
        V, and the most tokens of a sequence.
    window
        How many tokens a query sees in every layer, itself included. None: all, or not as many in all layers.
    dtype
        What hidden states are computed in: bfloat16 for weights of that kind, float32 for all others, the
        quantised ones included.
    """

    vocab_size: int
    context_length: int
    num_layers: int
    num_key_value_heads: int
    head_dim: int
    window: int | None = None
    dtype: np.dtype[Any] = np.dtype(np.float32)

    @abstractmethod
    def hidden(self, ids: NDArray[np.intp], cache: nn.KVCache | None = None) -> NDArray[Any]:
        """Compute the last hidden states of `ids`, (B, S) to (B, S, d), after what is in `cache`."""

    @abstractmethod
    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, layer by layer."""

    def prepare(self, dtype: DTypeLike) -> None:
        """Say what the weights become on their way in.

        Raises
        ------
        ValueError
            If `dtype` is none of float32, bfloat16, int8 and int4.
        """
        name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
        if name not in _WEIGHT_DTYPES:
            raise ValueError(f"load: dtype must be one of {', '.join(_WEIGHT_DTYPES)}, got {name!r}")
        self.dtype = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else np.float32)
        self._weight_dtype = name
        # First the dtype of everything, since quantised formats leave norms and biases as they are.
        self.to(self.dtype)
        self.to(name)

    def load_tables(self, checkpoint: Checkpoint, tokens: str, head: str) -> None:
        """Take the token table, which stays in the file, and the vocabulary's matrix, which is packed."""
        shapes = checkpoint.shapes
        wanted = (self.vocab_size, self.width)
        for name in (tokens, head):
            if name not in shapes:
                raise ValueError(f"{checkpoint.path}: {name} is missing")
            if shapes[name] != wanted:
                raise ValueError(
                    f"{checkpoint.path}: {name} is {shapes[name]}, the configuration wants {wanted}"
                )
        self._tokens = checkpoint, tokens
        parts: list[PackedWeight] = []
        for start in range(0, self.vocab_size, _HEAD_ROWS):
            rows = checkpoint.rows(head, np.arange(start, min(start + _HEAD_ROWS, self.vocab_size)))
            parts.append(pack_weight(rows, dtype=self._weight_dtype))
            checkpoint.forget(head)
            del rows
            trim()
        self._head = tuple(parts)

    @property
    @abstractmethod
    def width(self) -> int:
        """The size d of a hidden state."""

    def embed(self, ids: NDArray[np.intp]) -> NDArray[Any]:
        """Look up tokens, (B, S) to (B, S, d)."""
        checkpoint, name = self._tokens
        return checkpoint.rows(name, ids).astype(self.dtype)

    def logits(self, hidden: NDArray[Any]) -> NDArray[np.float32]:
        """Multiply hidden states (..., d) with the vocabulary: (..., V)."""
        parts = [linear(hidden, part) for part in self._head]
        return np.concatenate(parts, axis=-1).astype(np.float32, copy=False)

    def cache(self, batch: int, capacity: int) -> nn.KVCache:
        """Make an empty cache with room for `capacity` tokens of each of `batch` sequences.

        If no layer sees farther than `window`, older tokens are evicted and there is less room.
        """
        window = None
        if self.window is not None:
            window = max(self.window, _LEAST_KEPT + 1)
            capacity = min(capacity, window + 2 * _EVICT_BY)
        return nn.KVCache(
            self.num_layers,
            batch,
            self.num_key_value_heads,
            self.head_dim,
            capacity=capacity,
            window=window,
            evict_by=_EVICT_BY,
            dtype=self.dtype,
        )

    def check_ids(self, caller: str, ids: ArrayLike) -> NDArray[np.intp]:
        """Return token numbers as an array, or raise an error that shows what is wrong with them."""
        array = np.asarray(ids)
        if array.size == 0:
            raise ValueError(f"{caller}: a prompt is empty")
        if array.dtype.kind not in "iu":
            raise TypeError(f"{caller}: token ids must be integers, got {array.dtype}")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= self.vocab_size:
            raise ValueError(
                f"{caller}: token id {low if low < 0 else high} is unknown; there are {self.vocab_size}"
            )
        return array.astype(np.intp, copy=False)

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
        caller = type(self).__name__
        array = self.check_ids(caller, ids)
        if array.ndim != 2:
            raise ValueError(f"{caller}: ids must have shape (B, S), got {array.shape}")
        if array.shape[1] > self.context_length:
            raise ValueError(
                f"{caller}: ids has {array.shape[1]} tokens, the context is {self.context_length}"
            )
        return self.logits(self.hidden(array))
