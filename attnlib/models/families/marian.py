"""Marian, as the translators of OPUS-MT are (M. Junczys-Dowmunt et al., 2018, arXiv:1804.00344).

It is the Transformer of "Attention is all you need": sinusoidal positions, and norms after each sum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib.functional import sinusoidal_encoding
from attnlib.models.families.bert import ACTIVATIONS
from attnlib.models.families.encoder_decoder import EncoderDecoder
from attnlib.models.families.encoder_decoder_names import huggingface_source
from attnlib.models.files.checkpoint import Checkpoint, fill
from attnlib.models.files.config import Fields

__all__ = ["MarianConfig", "MarianModel", "read_config"]


@dataclass(frozen=True)
class MarianConfig:
    """What tells one model from another, named as in ``config.json``."""

    vocab_size: int
    decoder_vocab_size: int
    d_model: int
    encoder_layers: int
    encoder_attention_heads: int
    encoder_ffn_dim: int
    decoder_layers: int
    decoder_attention_heads: int
    decoder_ffn_dim: int
    activation_function: str
    max_position_embeddings: int
    scale_embedding: bool
    share_encoder_decoder_embeddings: bool
    tie_word_embeddings: bool


def read_config(file: Fields) -> MarianConfig:
    """Read a ``config.json``."""
    for field, usual in (
        ("normalize_before", False),
        ("normalize_embedding", False),
        ("add_final_layer_norm", False),
        ("static_position_embeddings", True),
    ):
        if file.boolean(field, usual) != usual:
            raise file.error(field, f"is {str(not usual).lower()}, which is not supported")
    width = file.integer("d_model", 1, 1 << 16)
    sizes = {}
    for stack in ("encoder", "decoder"):
        heads = file.integer(f"{stack}_attention_heads", 1, 1 << 10)
        if width % heads:
            raise file.error(f"{stack}_attention_heads", f"{heads} does not divide d_model {width}")
        sizes[f"{stack}_attention_heads"] = heads
        sizes[f"{stack}_layers"] = file.integer(f"{stack}_layers", 1, 1 << 10)
        sizes[f"{stack}_ffn_dim"] = file.integer(f"{stack}_ffn_dim", 1, 1 << 18)
    vocab_size = file.integer("vocab_size", 1, 1 << 24)
    shared = file.boolean("share_encoder_decoder_embeddings", True)
    others = file.integer("decoder_vocab_size", 1, 1 << 24, default=vocab_size)
    return MarianConfig(
        vocab_size=vocab_size,
        decoder_vocab_size=vocab_size if shared else others,
        d_model=width,
        **sizes,
        activation_function=file.choice("activation_function", ACTIVATIONS, default="gelu"),
        max_position_embeddings=file.integer("max_position_embeddings", 1, 1 << 20, default=1024),
        scale_embedding=file.boolean("scale_embedding", False),
        share_encoder_decoder_embeddings=shared,
        tie_word_embeddings=file.boolean("tie_word_embeddings", True),
    )


class MarianModel(EncoderDecoder):
    """A Marian model.

    Parameters
    ----------
    config
        The sizes.

    Attributes
    ----------
    encoder : nn.TransformerEncoder
    decoder : nn.TransformerDecoder
    """

    def __init__(self, config: MarianConfig) -> None:
        self.config = config
        self.vocab_size, self.source_vocab_size = config.decoder_vocab_size, config.vocab_size
        self.context_length = self.source_length = config.max_position_embeddings
        self._table = np.zeros((0, config.d_model), np.float32)
        self.num_layers, self.num_key_value_heads = config.decoder_layers, config.decoder_attention_heads
        self.head_dim = config.d_model // config.decoder_attention_heads
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                config.d_model,
                config.encoder_attention_heads,
                config.encoder_ffn_dim,
                activation=config.activation_function,
            ),
            config.encoder_layers,
        )
        self.decoder = nn.TransformerDecoder(
            nn.TransformerDecoderLayer(
                config.d_model,
                config.decoder_attention_heads,
                config.decoder_ffn_dim,
                activation=config.activation_function,
            ),
            config.decoder_layers,
        )

    def _positions(self, count: int) -> NDArray[np.float32]:
        """Return the first rows, at least `count`, of the table of positions, (P, d).

        No more than texts need: no weight shows that as many positions as the configuration says are real.
        All sines come before all cosines: between products nobody minds the order of features, but the
        weights have learned this one.
        """
        table = self._table  # another thread may put a longer or a shorter one there
        if len(table) < count:
            length = min(max(1024, 2 * count), self.config.max_position_embeddings)
            pairs = sinusoidal_encoding(length, self.config.d_model)
            self._table = table = np.concatenate([pairs[:, 0::2], pairs[:, 1::2]], axis=1)
        return table

    @property
    def width(self) -> int:
        """The size d of a hidden state."""
        return self.config.d_model

    def encode(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Run the encoder on token numbers: (B, Sm) to (B, Sm, d)."""
        ids, valid = self.check_sources(inputs, lengths)
        checkpoint, name = self._source_tokens
        x = self._place(checkpoint.rows(name, ids), np.arange(ids.shape[1]))
        return self.encoder(x, key_lengths=valid)

    def project_memory(self, memory: NDArray[Any], layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make the keys and values of a decoder layer's cross-attention, each (B, H, Sm, D)."""
        return self.decoder.layers[layer].multihead_attn.project_memory(memory)

    def hidden(self, ids: NDArray[np.intp], past: nn.DecoderPast) -> NDArray[Any]:
        """Compute the decoder's last hidden states of new tokens `ids`, (B, S) to (B, S, d), after `past`."""
        self.check_past(ids, past)
        places = past.positions[:, None] + np.arange(ids.shape[1])
        return self.decoder(self._place(self.embed(ids), places), cache=past)

    def logits(self, hidden: NDArray[Any]) -> NDArray[np.float32]:
        """Multiply hidden states (..., d) with the vocabulary and add the bias: (..., V)."""
        scores = super().logits(hidden)
        scores += self._final_logits_bias
        return scores

    def _place(self, tokens: NDArray[Any], places: NDArray[np.integer[Any]]) -> NDArray[Any]:
        """Scale embedded tokens (B, S, d) and add what says where they stand."""
        scale = math.sqrt(self.config.d_model) if self.config.scale_embedding else 1.0
        x: NDArray[Any] = (
            tokens.astype(np.float32) * np.float32(scale)
            + self._positions(int(places.max(initial=-1)) + 1)[places]
        )
        return x.astype(self.dtype, copy=False)

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, layer by layer.

        Raises
        ------
        ValueError
            If tensors are missing or do not fit the configuration.
        """
        slots = dict(self.named_parameters())
        fill(slots, {name: huggingface_source(name) for name in slots}, checkpoint)
        source, target = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"
        if self.config.share_encoder_decoder_embeddings:
            source = target = "model.shared.weight"
        head = "lm_head.weight"
        if self.config.tie_word_embeddings and head not in checkpoint.shapes:
            head = target
        self._source_tokens = self.check_table(checkpoint, source, self.config.vocab_size)
        self.load_tables(checkpoint, target, head)
        self._final_logits_bias = np.zeros(self.vocab_size, np.float32)
        name = "final_logits_bias"
        if name in checkpoint.shapes:
            if (found := checkpoint.shapes[name]) != (1, self.vocab_size):
                raise ValueError(
                    f"{checkpoint.path}: {name} is {found}, the configuration wants (1, {self.vocab_size})"
                )
            self._final_logits_bias += checkpoint.tensor(name)[0].astype(np.float32)
