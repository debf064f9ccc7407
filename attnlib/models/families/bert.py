"""BERT (Devlin et al., 2018), MiniLM, and what the other files of the family build on.

Letters: T tokens of packed texts, d hidden_size, V vocab_size, P positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib import nn
from attnlib.models.files.config import JsonFile
from attnlib.nn.initialisers import normal
from attnlib.nn.module import ArrayParameter

__all__ = ["ACTIVATIONS", "NAMES", "BertConfig", "BertModel", "WeightNames", "read_config", "read_sizes"]

# What Hugging Face calls them, and what `attnlib.linear` does.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
    "tanh": "tanh",
}


@dataclass(frozen=True)
class BertConfig:
    """The sizes of an encoder of the family."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    hidden_act: str
    layer_norm_eps: float
    max_position_embeddings: int
    type_vocab_size: int = 0
    first_position: int = 0

    @property
    def max_length(self) -> int:
        """The most tokens for which there are positions."""
        return self.max_position_embeddings - self.first_position


@dataclass(frozen=True)
class WeightNames:
    """What a checkpoint calls its tensors, without ``.weight`` and ``.bias`` at the end.

    `layer` maps the beginnings of the parameter names of `nn.TransformerEncoderLayer` to names within the
    layer ``{i}``; several are stacked along their first axis. `other` maps further parameters of the model to
    whole names. `prefixes` may stand before any name, when the
    checkpoint holds a task's head beside the encoder.
    """

    prefixes: tuple[str, ...]
    word: str
    position: str
    token_type: str | None
    norm: str
    layer: Mapping[str, tuple[str, ...]]
    other: Mapping[str, str] = field(default_factory=dict)


NAMES = WeightNames(
    prefixes=("bert.",),
    word="embeddings.word_embeddings",
    position="embeddings.position_embeddings",
    token_type="embeddings.token_type_embeddings",
    norm="embeddings.LayerNorm",
    layer={
        "self_attn.in_proj_": (
            "encoder.layer.{i}.attention.self.query",
            "encoder.layer.{i}.attention.self.key",
            "encoder.layer.{i}.attention.self.value",
        ),
        "self_attn.out_proj.": ("encoder.layer.{i}.attention.output.dense",),
        "norm1.": ("encoder.layer.{i}.attention.output.LayerNorm",),
        "linear1.": ("encoder.layer.{i}.intermediate.dense",),
        "linear2.": ("encoder.layer.{i}.output.dense",),
        "norm2.": ("encoder.layer.{i}.output.LayerNorm",),
    },
)


def read_config(file: JsonFile) -> BertConfig:
    """Read the ``config.json`` of a BERT or MiniLM model."""
    file.choice("position_embedding_type", {"absolute": None}, default="absolute")
    return replace(read_sizes(file), type_vocab_size=file.integer("type_vocab_size", 1, 1 << 10))


def read_sizes(file: JsonFile, fields: Mapping[str, str] | None = None) -> BertConfig:
    """Read what all families have, from fields named as in `BertConfig` unless `fields` renames them."""
    field = {**{name: name for name in BertConfig.__dataclass_fields__}, **(fields or {})}
    if file.boolean("is_decoder", False):
        raise file.error("is_decoder", "is true, but only encoders are supported")
    config = BertConfig(
        vocab_size=file.integer(field["vocab_size"], 1, 1 << 24),
        hidden_size=file.integer(field["hidden_size"], 1, 1 << 16),
        num_hidden_layers=file.integer(field["num_hidden_layers"], 1, 1 << 10),
        num_attention_heads=file.integer(field["num_attention_heads"], 1, 1 << 10),
        intermediate_size=file.integer(field["intermediate_size"], 1, 1 << 18),
        hidden_act=file.choice(field["hidden_act"], ACTIVATIONS, default="gelu"),
        layer_norm_eps=file.number(field["layer_norm_eps"], 0.0, 0.1, default=1e-12),
        max_position_embeddings=file.integer(field["max_position_embeddings"], 1, 1 << 20),
    )
    if config.hidden_size % config.num_attention_heads:
        raise file.error(
            field["num_attention_heads"],
            f"{config.num_attention_heads} does not divide {field['hidden_size']} {config.hidden_size}",
        )
    return config


class BertModel(nn.Module):
    """Token numbers in, hidden states out, for packed texts that each stand alone.

    Parameters
    ----------
    config
        The sizes.

    Attributes
    ----------
    word_embeddings : nn.Embedding(V, d)
    position_embeddings : (P, d)
        From the first position that a text uses on, and with the embedding of token type 0 added: a text
        that stands alone is all of that type.
    norm : nn.LayerNorm(d)
    encoder : nn.TransformerEncoder
    """

    def __init__(self, config: BertConfig) -> None:
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = ArrayParameter((config.max_length, config.hidden_size), normal)
        self.norm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(
                config.hidden_size,
                config.num_attention_heads,
                config.intermediate_size,
                activation=config.hidden_act,
                layer_norm_eps=config.layer_norm_eps,
            ),
            config.num_hidden_layers,
        )

    def embed(self, ids: NDArray[np.intp], cu_seqlens: NDArray[np.intp]) -> NDArray[Any]:
        """Sum and normalise the embeddings of words and positions: (T,) to (T, d)."""
        words = self.word_embeddings(ids)
        return self.norm(words, residual=self._places(ids.size, cu_seqlens), out=words)

    def _places(self, tokens: int, cu_seqlens: NDArray[np.intp]) -> NDArray[Any]:
        """Give the embeddings of the positions at which tokens stand in their texts: (T, d)."""
        table = self.position_embeddings.value
        if len(cu_seqlens) == 2 and tokens <= len(table):  # a single text, and these are its beginning
            return table[:tokens]
        lengths = np.diff(cu_seqlens)
        if lengths.size and (longest := lengths.max()) > self.config.max_length:
            raise ValueError(
                f"BertModel: a text of {longest} tokens is longer than the {self.config.max_length} "
                "for which there are positions"
            )
        positions = np.arange(tokens) - np.repeat(cu_seqlens[:-1], lengths)
        return np.take(table, positions, axis=0, mode="clip")

    def __call__(self, ids: NDArray[np.intp], cu_seqlens: NDArray[np.intp]) -> NDArray[Any]:
        """Run the encoder.

        Parameters
        ----------
        ids : (T,) integers
            The tokens of all texts, end to end.
        cu_seqlens : (N + 1,) integers
            Text n is in ``ids[cu_seqlens[n]:cu_seqlens[n + 1]]``.

        Returns
        -------
        (T, d) ndarray
            The last hidden states.

        Raises
        ------
        ValueError
            If a token is outside the vocabulary, or a text too long.
        """
        return self.encoder(self.embed(ids, cu_seqlens), cu_seqlens=cu_seqlens)
