"""T5 and T5 1.1 (C. Raffel et al., "Exploring the limits of transfer learning", 2020, arXiv:1910.10683).

Its scores are not scaled, a bias that goes by head and distance says where a token stands, and norms neither
shift nor add.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib.functional import attention
from attnlib.models.families.decoder import attend
from attnlib.models.families.encoder_decoder import EncoderDecoder
from attnlib.models.files.checkpoint import Checkpoint, Source, fill
from attnlib.models.files.config import Fields

__all__ = ["T5Config", "T5Model", "read_config"]

_ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_new": "gelu_tanh", "silu": "silu", "swish": "silu"}

# Nothing in the model limits a sequence.
_NO_LIMIT = 1 << 24


@dataclass(frozen=True)
class T5Config:
    """What tells one model from another, named as in ``config.json``."""

    vocab_size: int
    d_model: int
    d_kv: int
    d_ff: int
    num_layers: int
    num_decoder_layers: int
    num_heads: int
    relative_attention_num_buckets: int
    relative_attention_max_distance: int
    layer_norm_epsilon: float
    dense_act_fn: str
    is_gated_act: bool
    scale_decoder_outputs: bool
    tie_word_embeddings: bool


def read_config(file: Fields) -> T5Config:
    """Read a ``config.json``."""
    feed_forward = file.text("feed_forward_proj", "relu")
    activation = feed_forward.removeprefix("gated-")
    gated = activation != feed_forward
    usual = "gelu_new" if feed_forward == "gated-gelu" else activation
    layers = file.integer("num_layers", 1, 1 << 10)
    buckets = file.integer("relative_attention_num_buckets", 4, 1 << 16, default=32)
    if buckets % 2:
        raise file.error("relative_attention_num_buckets", f"must be even, found {buckets}")
    tied = file.boolean("tie_word_embeddings", True)
    return T5Config(
        vocab_size=file.integer("vocab_size", 1, 1 << 24),
        d_model=file.integer("d_model", 1, 1 << 16),
        d_kv=file.integer("d_kv", 1, 1 << 12),
        d_ff=file.integer("d_ff", 1, 1 << 18),
        num_layers=layers,
        num_decoder_layers=file.integer("num_decoder_layers", 1, 1 << 10, default=layers),
        num_heads=file.integer("num_heads", 1, 1 << 10),
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=file.integer(
            "relative_attention_max_distance", buckets // 2 + 1, 1 << 24, default=128
        ),
        layer_norm_epsilon=file.number("layer_norm_epsilon", 0.0, 0.1, default=1e-6),
        dense_act_fn=file.choice("dense_act_fn", _ACTIVATIONS, default=usual),
        is_gated_act=file.boolean("is_gated_act", gated),
        # The first version had tied embeddings and scaled, the second has neither.
        scale_decoder_outputs=file.boolean("scale_decoder_outputs", tied),
        tie_word_embeddings=tied,
    )


class T5Layer(nn.Module):
    """One layer: attention, in the decoder attention to the memory, a feed-forward network.

    Each comes after a norm and is added to its input. Nothing has a bias.

    Attributes
    ----------
    norm1, norm2 : nn.RMSNorm(d)
    in_proj : nn.Linear(d, 3 H D)
    out_proj : nn.Linear(H D, d)
    linear1 : nn.Linear(d, F)
    gate : nn.Linear(d, F) or None
        Whose activation is multiplied with what `linear1` makes, which then has none.
    linear2 : nn.Linear(F, d)
    memory_norm : nn.RMSNorm(d) or None
    memory_query : nn.Linear(d, H D) or None
    memory_in : nn.Linear(d, 2 H D) or None
        Keys and values of the memory.
    memory_out : nn.Linear(H D, d) or None
    """

    def __init__(self, config: T5Config, *, reads_memory: bool) -> None:
        self._config = config
        width, eps, inner = config.d_model, config.layer_norm_epsilon, config.num_heads * config.d_kv
        self.norm1 = nn.RMSNorm(width, eps)
        self.in_proj = nn.Linear(width, 3 * inner, False)
        self.out_proj = nn.Linear(inner, width, False)
        self.memory_norm = nn.RMSNorm(width, eps) if reads_memory else None
        self.memory_query = nn.Linear(width, inner, False) if reads_memory else None
        self.memory_in = nn.Linear(width, 2 * inner, False) if reads_memory else None
        self.memory_out = nn.Linear(inner, width, False) if reads_memory else None
        self.norm2 = nn.RMSNorm(width, eps)
        self.linear1 = nn.Linear(width, config.d_ff, False)
        self.gate = nn.Linear(width, config.d_ff, False) if config.is_gated_act else None
        self.linear2 = nn.Linear(config.d_ff, width, False)

    def encode(self, x: NDArray[Any], lengths: NDArray[np.int64] | None, bias: NDArray[Any]) -> NDArray[Any]:
        """Run a layer of the encoder on (B, Sm, d)."""
        query, key, value = self._heads(self.in_proj(self.norm1(x)))
        attended = _attend_to_all(query, key, value, lengths, bias)
        return self._transform(self.out_proj(attended, residual=x))

    def decode(self, x: NDArray[Any], past: nn.DecoderPast, index: int, bias: NDArray[Any]) -> NDArray[Any]:
        """Run a layer of the decoder on (B, S, d)."""
        assert self.memory_norm is not None
        assert self.memory_query is not None
        assert self.memory_out is not None
        query, key, value = self._heads(self.in_proj(self.norm1(x)))
        x = self.out_proj(attend(query, key, value, past.target, index, bias=bias, scale=1.0), residual=x)
        (query,) = self._heads(self.memory_query(self.memory_norm(x)))
        x = self.memory_out(_attend_to_all(query, *past.memory.read(index)), residual=x)
        return self._transform(x)

    def project_memory(self, memory: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make keys and values of the memory, each (B, H, Sm, D)."""
        assert self.memory_in is not None
        keys, values = self._heads(self.memory_in(memory))
        return keys, values

    def _heads(self, mixed: NDArray[Any]) -> list[NDArray[Any]]:
        """Cut (B, S, n * H * D), of queries, keys and values or some of them, into n views (B, H, S, D)."""
        parts = mixed.reshape(*mixed.shape[:2], -1, self._config.num_heads, self._config.d_kv)
        return [parts[:, :, number].swapaxes(1, 2) for number in range(parts.shape[2])]

    def _transform(self, x: NDArray[Any]) -> NDArray[Any]:
        normed, activation = self.norm2(x), self._config.dense_act_fn
        if self.gate is None:
            return self.linear2(self.linear1(normed, activation=activation), residual=x)
        inner = self.gate(normed, activation=activation)
        inner *= self.linear1(normed)
        return self.linear2(inner, residual=x)


def _attend_to_all(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    lengths: NDArray[np.int64] | None,
    bias: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Attend to a source or the memory, all of whose `lengths` places each token sees: to (B, S, H * D)."""
    batch, heads, count, size = query.shape
    out = np.empty((batch, count, heads, size), query.dtype)
    attention(query, key, value, bias=bias, key_lengths=lengths, scale=1.0, out=out.swapaxes(1, 2))
    return out.reshape(batch, count, heads * size)


class T5Model(EncoderDecoder):
    """A T5 model.

    Parameters
    ----------
    config
        The sizes.

    Attributes
    ----------
    encoder_bias, decoder_bias : nn.RelativePositionBias
        Of all layers.
    encoder_layers, decoder_layers : list of T5Layer
    encoder_norm, decoder_norm : nn.RMSNorm(d)
    """

    def __init__(self, config: T5Config) -> None:
        self.config = config
        self.vocab_size, self.context_length = config.vocab_size, _NO_LIMIT
        self.num_layers, self.num_key_value_heads = config.num_decoder_layers, config.num_heads
        self.head_dim = config.d_kv
        buckets = config.relative_attention_num_buckets
        sizes = buckets, config.num_heads, config.relative_attention_max_distance
        self.encoder_bias = nn.RelativePositionBias(*sizes, bidirectional=True)
        self.decoder_bias = nn.RelativePositionBias(*sizes, bidirectional=False)
        self.encoder_layers = [T5Layer(config, reads_memory=False) for _ in range(config.num_layers)]
        self.decoder_layers = [T5Layer(config, reads_memory=True) for _ in range(config.num_decoder_layers)]
        self.encoder_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)
        self.decoder_norm = nn.RMSNorm(config.d_model, config.layer_norm_epsilon)

    @property
    def width(self) -> int:
        """The size d of a hidden state."""
        return self.config.d_model

    def encode(self, inputs: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[Any]:
        """Run the encoder on token numbers: (B, Sm) to (B, Sm, d)."""
        ids, valid = self.check_sources(inputs, lengths)
        x = self.embed(ids)
        bias = self.encoder_bias(ids.shape[1])
        for layer in self.encoder_layers:
            x = layer.encode(x, valid, bias)
        return self.encoder_norm(x)

    def project_memory(self, memory: NDArray[Any], layer: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Make the keys and values of a decoder layer's cross-attention, each (B, H, Sm, D)."""
        return self.decoder_layers[layer].project_memory(memory)

    def hidden(self, ids: NDArray[np.intp], past: nn.DecoderPast) -> NDArray[Any]:
        """Compute the decoder's last hidden states of new tokens `ids`, (B, S) to (B, S, d), after `past`."""
        self.check_past(ids, past)
        bias = self._bias(past.positions.tolist(), ids.shape[1])
        x = self.embed(ids)
        for index, layer in enumerate(self.decoder_layers):
            x = layer.decode(x, past, index, bias)
        x = self.decoder_norm(x)
        if self.config.scale_decoder_outputs:
            x *= self.dtype.type(self.config.d_model**-0.5)
        return x

    def _bias(self, positions: list[int], count: int) -> NDArray[Any]:
        """Make the bias of `count` tokens after each sequence's past: ([B,] H, S, L), L the most tokens."""
        total = max(positions) + count
        if len({*positions}) == 1:
            return self.decoder_bias(count, total)
        return np.stack([self.decoder_bias(count, total, query_offset=start) for start in positions])

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, layer by layer.

        Raises
        ------
        ValueError
            If tensors are missing or do not fit the configuration.
        """
        slots = dict(self.named_parameters())
        fill(slots, {name: self._source(name) for name in slots}, checkpoint)
        head = "lm_head.weight"
        if self.config.tie_word_embeddings and head not in checkpoint.shapes:
            head = "shared.weight"
        self.load_tables(checkpoint, "shared.weight", head)

    def _source(self, parameter: str) -> Source:
        """Find the tensors of a parameter such as ``decoder_layers.3.memory_in.weight``."""
        module, _ = parameter.rsplit(".", 1)
        stack, _, rest = module.partition("_")
        if rest in _WHOLE:
            return Source((f"{stack}.{_WHOLE[rest]}.weight",))
        _, number, part = rest.split(".")
        names = _PARTS[part]
        if part in ("linear1", "gate") and not self.config.is_gated_act:
            names = ("F.DenseReluDense.wi",)
        # The feed-forward network comes last, which is third where there is cross-attention.
        last = "2" if stack == "decoder" else "1"
        return Source(
            tuple(f"{stack}.block.{number}.layer.{name.replace('F', last, 1)}.weight" for name in names)
        )


# Under the name of the stack.
_WHOLE = {"bias": "block.0.layer.0.SelfAttention.relative_attention_bias", "norm": "final_layer_norm"}

# Under that of a block; F is the number of the feed-forward network in it.
_PARTS = {
    "norm1": ("0.layer_norm",),
    "in_proj": tuple(f"0.SelfAttention.{kind}" for kind in "qkv"),
    "out_proj": ("0.SelfAttention.o",),
    "memory_norm": ("1.layer_norm",),
    "memory_query": ("1.EncDecAttention.q",),
    "memory_in": tuple(f"1.EncDecAttention.{kind}" for kind in "kv"),
    "memory_out": ("1.EncDecAttention.o",),
    "norm2": ("F.layer_norm",),
    "linear1": ("F.DenseReluDense.wi_1",),
    "gate": ("F.DenseReluDense.wi_0",),
    "linear2": ("F.DenseReluDense.wo",),
}
