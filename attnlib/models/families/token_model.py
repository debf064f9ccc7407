"""What all models that write tokens have in common: the token table, the vocabulary's matrix, their dtype."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib import nn
from attnlib.functional import PackedWeight, linear_in_parts, pack_weight
from attnlib.models.files.checkpoint import Checkpoint, naming
from attnlib.models.memory import trim

__all__ = ["TokenModel"]

# The most bytes of the vocabulary's matrix that are packed at a time, counted in float32: all of it is often
# a third of a small model, and would have to lie unpacked beside it.
_HEAD_BYTES = 4 << 20

_WEIGHT_DTYPES = ("float32", "bfloat16", "int8", "int4")


class TokenModel(nn.Module):
    """Base class of `Decoder` and `EncoderDecoder`: token numbers in, logits of the next token out.

    Attributes
    ----------
    vocab_size, context_length
        V, and the most tokens of a sequence that it writes.
    num_layers, num_key_value_heads, head_dim
        Of the decoder, as a cache of its keys and values needs them.
    dtype
        What hidden states are computed in: bfloat16 for weights of that kind, float32 for all others, the
        quantised ones included.
    """

    vocab_size: int
    context_length: int
    num_layers: int
    num_key_value_heads: int
    head_dim: int
    dtype: np.dtype[Any] = np.dtype(np.float32)

    @abstractmethod
    def hidden(self, ids: NDArray[np.intp], past: Any, /) -> NDArray[Any]:
        """Compute the last hidden states of `ids`, (B, S) to (B, S, d), after what is in `past`."""

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

    # As `fill` does.
    @np.errstate(over="ignore", invalid="ignore")
    def load_tables(self, checkpoint: Checkpoint, tokens: str, head: str) -> None:
        """Take the token table, which stays in the file, and the vocabulary's matrix, which is packed."""
        self._tokens = self.check_table(checkpoint, tokens)
        self.check_table(checkpoint, head)
        parts: list[PackedWeight] = []
        step = max(1, _HEAD_BYTES // (4 * self.width))
        for start in range(0, self.vocab_size, step):
            rows = checkpoint.rows(head, np.arange(start, min(start + step, self.vocab_size)))
            with naming(checkpoint.path, head):
                parts.append(pack_weight(rows, dtype=self._weight_dtype))
            checkpoint.forget(head)
            del rows
            trim()
        self._head = tuple(parts)

    def check_table(
        self, checkpoint: Checkpoint, name: str, vocab_size: int | None = None
    ) -> tuple[Checkpoint, str]:
        """Return where a table of one row for each token is, or raise a ValueError if it is not there."""
        wanted = (self.vocab_size if vocab_size is None else vocab_size, self.width)
        if name not in checkpoint.shapes:
            raise ValueError(f"{checkpoint.path}: {name} is missing")
        if (found := checkpoint.shapes[name]) != wanted:
            raise ValueError(f"{checkpoint.path}: {name} is {found}, the configuration wants {wanted}")
        return checkpoint, name

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
        return linear_in_parts(hidden, self._head).astype(np.float32, copy=False)

    def cache(self, batch: int, capacity: int) -> nn.KVCache:
        """Make an empty cache with room for `capacity` tokens of each of `batch` sequences."""
        return nn.KVCache(
            self.num_layers,
            batch,
            self.num_key_value_heads,
            self.head_dim,
            capacity=capacity,
            dtype=self.dtype,
        )

    def check_ids(self, caller: str, ids: ArrayLike, vocab_size: int | None = None) -> NDArray[np.intp]:
        """Return token numbers as an array, or raise an error that shows what is wrong with them."""
        known = self.vocab_size if vocab_size is None else vocab_size
        array = np.asarray(ids)
        if array.size == 0:
            raise ValueError(f"{caller}: a prompt is empty")
        if array.dtype.kind not in "iu":
            raise TypeError(f"{caller}: token ids must be integers, got {array.dtype}")
        low, high = int(array.min()), int(array.max())
        if low < 0 or high >= known:
            raise ValueError(f"{caller}: token id {low if low < 0 else high} is unknown; there are {known}")
        return array.astype(np.intp, copy=False)

    def check_targets(self, caller: str, ids: ArrayLike) -> NDArray[np.intp]:
        """Return token numbers (B, S) that fit in the context, or raise an error."""
        array = self.check_ids(caller, ids)
        if array.ndim != 2:
            raise ValueError(f"{caller}: ids must have shape (B, S), got {array.shape}")
        if array.shape[1] > self.context_length:
            raise ValueError(
                f"{caller}: ids has {array.shape[1]} tokens, the context is {self.context_length}"
            )
        return array
