"""The Llama family: Llama, Mistral, Qwen2, Qwen3 and SmolLM, from Hugging Face folders and from GGUF files.

H. Touvron et al., "LLaMA: Open and Efficient Foundation Language Models", 2023 (arXiv:2302.13971).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib import nn
from attnlib.functional import cached_self_attention, gated_feed_forward
from attnlib.models.families.decoder import Decoder, Turns, attend
from attnlib.models.families.rope import Rope, RopeTable, read_rope
from attnlib.models.files.checkpoint import Change, Checkpoint, Source, fill
from attnlib.models.files.config import Fields
from attnlib.models.files.gguf_file import GgufFile
from attnlib.nn.module import ArrayParameter

__all__ = ["LlamaConfig", "LlamaModel", "read_config", "read_gguf_config"]


@dataclass(frozen=True)
class LlamaConfig:
    """What tells one model of the family from another, named as in ``config.json``."""

    model_type: str
    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    intermediate_size: int
    rms_norm_eps: float
    max_position_embeddings: int
    rope: Rope
    tie_word_embeddings: bool = False
    query_bias: bool = False
    output_bias: bool = False
    query_norm: bool = False
    windows: tuple[int | None, ...] = ()


def read_config(file: Fields) -> LlamaConfig:
    """Read a ``config.json``."""
    kind = file.choice("model_type", {name: name for name in ("llama", "mistral", "qwen2", "qwen3")})
    file.choice("hidden_act", {"silu": None}, default="silu")
    if file.boolean("mlp_bias", False):
        raise file.error("mlp_bias", "is true, which is not supported")
    bias = file.boolean("attention_bias", False)
    layers = file.integer("num_hidden_layers", 1, 1 << 10)
    heads = file.integer("num_attention_heads", 1, 1 << 10)
    width = file.integer("hidden_size", 1, 1 << 16)
    return _checked(
        file,
        LlamaConfig(
            model_type=kind,
            vocab_size=file.integer("vocab_size", 1, 1 << 24),
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=file.integer("num_key_value_heads", 1, 1 << 10, default=heads),
            head_dim=file.integer("head_dim", 1, 1 << 12, default=max(width // heads, 1)),
            intermediate_size=file.integer("intermediate_size", 1, 1 << 18),
            rms_norm_eps=file.number("rms_norm_eps", 0.0, 0.1, default=1e-6),
            max_position_embeddings=file.integer("max_position_embeddings", 1, 1 << 24),
            rope=read_rope(file),
            tie_word_embeddings=file.boolean("tie_word_embeddings", False),
            query_bias=bias or kind == "qwen2",
            output_bias=bias,
            query_norm=kind == "qwen3",
            windows=_windows(file, kind, layers),
        ),
    )


def _windows(file: Fields, kind: str, layers: int) -> tuple[int | None, ...]:
    """Find how far each layer sees."""
    sliding = "sliding_window" in file and kind != "llama"
    if not sliding or (kind != "mistral" and not file.boolean("use_sliding_window", False)):
        return (None,) * layers
    window = file.integer("sliding_window", 1, 1 << 24)
    if kind == "mistral":
        return (window,) * layers
    if "layer_types" in file:
        return tuple(window if slides else None for slides in _layer_types(file, layers))
    full = file.integer("max_window_layers", 0, 1 << 10, default=28)
    return tuple(None if layer < full else window for layer in range(layers))


def _layer_types(file: Fields, layers: int) -> list[bool]:
    """Read which layers see no more than a window."""
    kinds = {"full_attention": False, "sliding_attention": True}
    found = file.get("layer_types")
    if not isinstance(found, list) or len(found) != layers:
        raise file.error("layer_types", f"must be a list of {layers} types, found {found!r:.60}")
    return [Fields(file.path, {"layer_types": kind}).choice("layer_types", kinds) for kind in found]


def read_gguf_config(file: GgufFile) -> LlamaConfig:
    """Read the header of a GGUF file."""
    fields, shapes = file.fields, file.shapes
    kind = fields.choice("general.architecture", {name: name for name in ("llama", "qwen2", "qwen3")})
    width = fields.integer(f"{kind}.embedding_length", 1, 1 << 16)
    heads = fields.integer(f"{kind}.attention.head_count", 1, 1 << 10)
    layers = fields.integer(f"{kind}.block_count", 1, 1 << 10)
    head_dim = fields.integer(f"{kind}.attention.key_length", 1, 1 << 12, default=max(width // heads, 1))
    if fields.integer(f"{kind}.rope.dimension_count", 1, 1 << 12, default=head_dim) != head_dim:
        raise fields.error(f"{kind}.rope.dimension_count", f"must be the size of a head, {head_dim}")
    if fields.integer(f"{kind}.expert_count", 0, 1 << 10, default=0):
        raise fields.error(f"{kind}.expert_count", "is not 0: mixtures of experts are not supported")
    window = None
    if f"{kind}.attention.sliding_window" in fields:
        window = fields.integer(f"{kind}.attention.sliding_window", 1, 1 << 24)
    if "token_embd.weight" not in shapes:
        raise ValueError(f"{file.path}: token_embd.weight is missing")
    return _checked(
        fields,
        LlamaConfig(
            model_type=kind,
            vocab_size=shapes["token_embd.weight"][0],
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=fields.integer(f"{kind}.attention.head_count_kv", 1, 1 << 10, default=heads),
            head_dim=head_dim,
            intermediate_size=fields.integer(f"{kind}.feed_forward_length", 1, 1 << 18),
            rms_norm_eps=fields.number(f"{kind}.attention.layer_norm_rms_epsilon", 0.0, 0.1),
            max_position_embeddings=fields.integer(f"{kind}.context_length", 1, 1 << 24),
            rope=_gguf_rope(fields, kind),
            tie_word_embeddings="output.weight" not in shapes,
            query_bias="blk.0.attn_q.bias" in shapes,
            output_bias="blk.0.attn_output.bias" in shapes,
            query_norm="blk.0.attn_q_norm.weight" in shapes,
            windows=(window,) * layers,
        ),
    )


def _gguf_rope(fields: Fields, kind: str) -> Rope:
    """Read the rotary embedding as llama.cpp does: a factor alone is linear, and 0 stands for none."""
    scaling = fields.choice(
        f"{kind}.rope.scaling.type", {"none": "default", "linear": "linear"}, default="linear"
    )
    name = f"{kind}.rope.scaling.factor"
    if name not in fields:
        name = f"{kind}.rope.scale_linear"  # files of old
    factor = 1.0 if fields.get(name, 0.0) == 0 else fields.number(name, 1.0, 1e6)
    return Rope(fields.number(f"{kind}.rope.freq_base", 1.0, 1e12, default=10000.0), scaling, factor)


def _checked(file: Fields, config: LlamaConfig) -> LlamaConfig:
    if config.num_attention_heads % config.num_key_value_heads:
        raise ValueError(
            f"{file.path}: {config.num_key_value_heads} key/value heads do not divide "
            f"{config.num_attention_heads} heads"
        )
    if config.head_dim % 2:
        raise ValueError(f"{file.path}: the size of a head must be even, found {config.head_dim}")
    return config


class LlamaLayer(nn.Module):
    """One layer: attention, then a gated feed-forward network, each after a norm and added to its input.

    Attributes
    ----------
    norm1, norm2 : nn.RMSNorm(d)
    in_proj : nn.Linear(d, (H + 2 G) D)
        Queries, keys and values in one product.
    query_norm, key_norm : nn.RMSNorm(D) or None
    out_proj : nn.Linear(H D, d)
    gate_up : nn.Linear(d, 2 I)
    down : nn.Linear(I, d)
    """

    def __init__(self, config: LlamaConfig, window: int | None) -> None:
        self._config = config
        self._window = window
        width, size, eps = config.hidden_size, config.head_dim, config.rms_norm_eps
        heads = config.num_attention_heads + 2 * config.num_key_value_heads
        self.norm1 = nn.RMSNorm(width, eps)
        self.in_proj = nn.Linear(width, heads * size, config.query_bias)
        self.query_norm = nn.RMSNorm(size, eps) if config.query_norm else None
        self.key_norm = nn.RMSNorm(size, eps) if config.query_norm else None
        self.out_proj = nn.Linear(config.num_attention_heads * size, width, config.output_bias)
        self.norm2 = nn.RMSNorm(width, eps)
        self.gate_up = nn.Linear(width, 2 * config.intermediate_size, False)
        self.down = nn.Linear(config.intermediate_size, width, False)

    def __call__(
        self,
        x: NDArray[Any],
        turns: Turns,
        cache: nn.KVCache | None,
        index: int,
    ) -> NDArray[Any]:
        """Run the layer on (B, S, d)."""
        # Each half in one call: for a token, calls take as long as what they do.
        if cache is not None and cache.holds_floats:
            window = cache.attention_window(self._window)
            step = partial(cached_self_attention, x, window=window, **self._attention(turns))
            x = cache.extend(index, x.shape[1], step)
        else:
            x = self._attend(x, turns, cache, index)
        return gated_feed_forward(
            x,
            _value(self.norm2.weight),
            self.gate_up.weight.value,
            self.down.weight.value,
            eps=self._config.rms_norm_eps,
        )

    def _attention(self, turns: Turns) -> dict[str, Any]:
        return {
            "norm_weight": _value(self.norm1.weight),
            "in_proj": self.in_proj.weight.value,
            "out_proj": self.out_proj.weight.value,
            "heads": self._config.num_attention_heads,
            "groups": self._config.num_key_value_heads,
            "eps": self._config.rms_norm_eps,
            "in_bias": _value(self.in_proj.bias),
            "out_bias": _value(self.out_proj.bias),
            "query_norm": None if self.query_norm is None else _value(self.query_norm.weight),
            "key_norm": None if self.key_norm is None else _value(self.key_norm.weight),
            "cos": turns.cos,
            "sin": turns.sin,
            "positions": turns.positions,
        }

    def _attend(self, x: NDArray[Any], turns: Turns, cache: nn.KVCache | None, index: int) -> NDArray[Any]:
        """Compute the first half in the steps that it is made of."""
        config = self._config
        heads, groups = config.num_attention_heads, config.num_key_value_heads
        mixed = self.in_proj(self.norm1(x)).reshape(*x.shape[:2], heads + 2 * groups, config.head_dim)
        if self.query_norm is not None and self.key_norm is not None:
            mixed[:, :, :heads] = self.query_norm(mixed[:, :, :heads])
            mixed[:, :, heads : heads + groups] = self.key_norm(mixed[:, :, heads : heads + groups])
        mixed = mixed.swapaxes(1, 2)
        query, key, value = mixed[:, :heads], mixed[:, heads : heads + groups], mixed[:, heads + groups :]
        attended = attend(query, key, value, cache, index, self._window, turns=turns)
        return self.out_proj(attended, residual=x)


def _value(parameter: ArrayParameter | None) -> NDArray[Any] | None:
    return None if parameter is None else parameter.value


class LlamaModel(Decoder):
    """A model of the Llama family.

    Parameters
    ----------
    config
        The sizes.

    Attributes
    ----------
    layers : list of LlamaLayer
    norm : nn.RMSNorm(d)
    """

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config
        self.vocab_size, self.context_length = config.vocab_size, config.max_position_embeddings
        self.num_layers, self.num_key_value_heads = config.num_hidden_layers, config.num_key_value_heads
        self.head_dim = config.head_dim
        windows = config.windows or (None,) * config.num_hidden_layers
        self.layers = [LlamaLayer(config, window) for window in windows]
        self.window = windows[0] if len(set(windows)) == 1 else None
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self._rope = RopeTable(config.rope.frequencies(config.head_dim), self.dtype)

    @property
    def width(self) -> int:
        """The size d of a hidden state."""
        return self.config.hidden_size

    def hidden(self, ids: NDArray[np.intp], cache: nn.KVCache | None = None) -> NDArray[Any]:
        """Compute the last hidden states of `ids`, (B, S) to (B, S, d), after what is in `cache`."""
        x = self.embed(ids)
        positions = None
        length = ids.shape[1]
        if cache is not None:
            past = cache.positions
            positions = past[:, None] + np.arange(length)
            length += int(past.max())
        turns = Turns(*self._rope.upto(length), positions)
        for index, layer in enumerate(self.layers):
            x = layer(x, turns, cache, index)
        return self.norm(x)

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, layer by layer.

        Raises
        ------
        ValueError
            If tensors are missing or do not fit the configuration.
        """
        config = self.config
        names = _GGUF if isinstance(checkpoint, GgufFile) else _HUGGING_FACE
        tokens = names["tokens"][0]
        head = tokens if config.tie_word_embeddings else names["head"][0]
        frequencies = config.rope.frequencies(config.head_dim)
        if isinstance(checkpoint, GgufFile) and "rope_freqs.weight" in checkpoint.shapes:
            factors = checkpoint.tensor("rope_freqs.weight").astype(np.float64)
            if factors.shape != frequencies.shape or not (factors > 0).all():
                raise ValueError(f"{checkpoint.path}: rope_freqs.weight must hold {frequencies.size} factors")
            frequencies = frequencies / factors
        self._rope = RopeTable(frequencies, self.dtype)
        slots = dict(self.named_parameters())
        fill(slots, {name: self._source(name, names, checkpoint) for name in slots}, checkpoint)
        self.load_tables(checkpoint, tokens, head)

    def _source(self, parameter: str, names: dict[str, tuple[str, ...]], checkpoint: Checkpoint) -> Source:
        """Find the tensors of a parameter such as ``layers.3.in_proj.weight``."""
        module, kind = parameter.rsplit(".", 1)
        number, _, part = module.removeprefix("layers.").partition(".")
        tensors = tuple(f"{stem.format(i=number)}.{kind}" for stem in names[part or module])
        changes: dict[str, Change] = {}
        if part == "in_proj" and isinstance(checkpoint, GgufFile) and self.config.model_type == "llama":
            heads = self.config.num_attention_heads, self.config.num_key_value_heads
            changes = {
                tensor: partial(_halves, heads=count)
                for tensor, count in zip(tensors[:2], heads, strict=True)
            }
        return Source(tensors, changes)


def _halves(weight: NDArray[Any], *, heads: int) -> NDArray[Any]:
    """Put a head's planes back from features (2 i, 2 i + 1), as llama.cpp stores them, to (i, i + D/2)."""
    pairs = weight.reshape(heads, -1, 2, *weight.shape[1:])
    halves: NDArray[Any] = pairs.swapaxes(1, 2).reshape(weight.shape)
    return halves


_HUGGING_FACE = {
    "tokens": ("model.embed_tokens.weight",),
    "head": ("lm_head.weight",),
    "norm": ("model.norm",),
    "norm1": ("model.layers.{i}.input_layernorm",),
    "in_proj": tuple(f"model.layers.{{i}}.self_attn.{kind}_proj" for kind in "qkv"),
    "query_norm": ("model.layers.{i}.self_attn.q_norm",),
    "key_norm": ("model.layers.{i}.self_attn.k_norm",),
    "out_proj": ("model.layers.{i}.self_attn.o_proj",),
    "norm2": ("model.layers.{i}.post_attention_layernorm",),
    "gate_up": ("model.layers.{i}.mlp.gate_proj", "model.layers.{i}.mlp.up_proj"),
    "down": ("model.layers.{i}.mlp.down_proj",),
}

_GGUF = {
    "tokens": ("token_embd.weight",),
    "head": ("output.weight",),
    "norm": ("output_norm",),
    "norm1": ("blk.{i}.attn_norm",),
    "in_proj": ("blk.{i}.attn_q", "blk.{i}.attn_k", "blk.{i}.attn_v"),
    "query_norm": ("blk.{i}.attn_q_norm",),
    "key_norm": ("blk.{i}.attn_k_norm",),
    "out_proj": ("blk.{i}.attn_output",),
    "norm2": ("blk.{i}.ffn_norm",),
    "gate_up": ("blk.{i}.ffn_gate", "blk.{i}.ffn_up"),
    "down": ("blk.{i}.ffn_down",),
}
