"""What encoder-decoders have in common: a memory that is read once, and a decoder that looks things up in it.

Letters: B batch, S target tokens, Sm places of the memory, d the size of a hidden state, H query heads, G
key/value heads, D the size of a head.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib.models.families.token_model import TokenModel

__all__ = ["EncoderDecoder"]


class EncoderDecoder(TokenModel):
    """Base class of the encoder-decoder families: a source in, logits of the target's tokens out.

    The three steps are apart, so that the source is read once however many tokens follow::

        memory = model.encode(ids, lengths)
        past = model.begin(memory, lengths, capacity=64)
        logits = model.logits(model.hidden(target_ids, past))

    In every step the bits of a sequence's results depend neither on the other sequences of the batch nor on
    padding.

    Attributes
    ----------
    source_length
        The most tokens of a source, or None if there is no such limit.
    source_vocab_size
        The number of tokens of a source, or None if it is that of the target.
    """

    source_length: int | None = None
    source_vocab_size: int | None = None

    @abstractmethod
    def encode(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Run the encoder.

        Parameters
        ----------
        inputs
            What the family reads: token numbers (B, Sm), or features.
        lengths : (B,) integers, optional
            Only so many places of each source are valid. Default: all.

        Returns
        -------
        memory : (B, Sm, d) ndarray
            What stands beyond the lengths means nothing.
        """

    @abstractmethod
    def project_memory(self, memory: NDArray[Any], layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make the keys and values of a decoder layer's cross-attention, each (B, G, Sm, D)."""

    @abstractmethod
    def hidden(self, ids: NDArray[np.intp], past: nn.DecoderPast) -> NDArray[Any]:
        """Compute the decoder's last hidden states of new tokens `ids`, (B, S) to (B, S, d), after `past`."""

    def begin(
        self, memory: NDArray[Any], memory_lengths: ArrayLike | None = None, *, capacity: int
    ) -> nn.DecoderPast:
        """Make the state that decoding starts from: no tokens yet, and the memory's keys and values.

        Parameters
        ----------
        memory : (B, Sm, d)
            As `encode` returns it.
        memory_lengths : (B,) integers, optional
            The `lengths` that `encode` got.
        capacity
            Target tokens for which there is room at first; more is made when more come.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        """
        caller = f"{type(self).__name__}.begin"
        if memory.ndim != 3 or memory.shape[2] != self.width:
            raise ValueError(f"{caller}: memory has shape {memory.shape}, expected (B, Sm, {self.width})")
        batch, places = memory.shape[:2]
        lengths = self.check_lengths(caller, "memory_lengths", memory_lengths, batch, places)
        kept = self.cache(batch, places)
        for layer in range(self.num_layers):
            kept.append(layer, *self.project_memory(memory, layer), new_lengths=lengths)
        return nn.DecoderPast(self.cache(batch, capacity), kept)

    def check_past(self, ids: NDArray[np.intp], past: nn.DecoderPast) -> None:
        """Raise a ValueError unless `past` is of a model of these sizes and of the sequences of `ids`."""
        wanted = self.num_layers, self.num_key_value_heads, self.head_dim, self.dtype.name
        for cache in (past.target, past.memory):
            found = cache.num_layers, cache.num_kv_heads, cache.head_dim, cache.dtype.name
            if found != wanted:
                name = type(self).__name__
                raise ValueError(
                    f"{name}: past is of another model: its layers, heads, head size and dtype are {found}, "
                    f"not {wanted}"
                )
        if past.batch_size != len(ids):
            raise ValueError(
                f"{type(self).__name__}: ids are of {len(ids)} sequences, past of {past.batch_size}"
            )

    def check_lengths(
        self, caller: str, name: str, lengths: ArrayLike | None, batch: int, longest: int
    ) -> NDArray[np.int64] | None:
        """Return lengths (B,) from 1 to `longest`, or raise an error."""
        if lengths is None:
            return None
        array = np.asarray(lengths)
        if array.dtype.kind not in "iu":
            raise TypeError(f"{caller}: {name} must be integers, got {array.dtype}")
        if array.shape != (batch,):
            raise ValueError(f"{caller}: {name} has shape {array.shape}, expected ({batch},)")
        if ((array < 1) | (array > longest)).any():
            raise ValueError(f"{caller}: {name} must be from 1 to {longest}, got {array}")
        return array.astype(np.int64)

    def check_source(self, caller: str, ids: ArrayLike) -> NDArray[np.intp]:
        """Return token numbers of a source, or of several (B, Sm), or raise an error."""
        array = self.check_ids(caller, ids, self.source_vocab_size)
        if self.source_length is not None and array.shape[-1] > self.source_length:
            raise ValueError(
                f"{caller}: a source has {array.shape[-1]} tokens, the encoder takes {self.source_length}"
            )
        return array

    def check_sources(
        self, ids: ArrayLike, lengths: ArrayLike | None
    ) -> tuple[NDArray[np.intp], NDArray[np.int64] | None]:
        """Return token numbers (B, Sm) and lengths of sources, or raise an error."""
        caller = f"{type(self).__name__}.encode"
        array = self.check_source(caller, ids)
        if array.ndim != 2:
            raise ValueError(f"{caller}: inputs must have shape (B, Sm), got {array.shape}")
        return array, self.check_lengths(caller, "lengths", lengths, *array.shape)

    def __call__(
        self, inputs: ArrayLike, ids: ArrayLike, lengths: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Compute the logits of the token after each of `ids`, (B, S, V), given the sources.

        Parameters
        ----------
        inputs, lengths
            As in `encode`.
        ids : (B, S) integers
            Target tokens, from the first on.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or there are not as many targets as sources.
        """
        targets = self.check_targets(type(self).__name__, ids)
        past = self.begin(self.encode(inputs, lengths), lengths, capacity=targets.shape[1])
        return self.logits(self.hidden(targets, past))
