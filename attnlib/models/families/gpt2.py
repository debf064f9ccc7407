"""GPT-2 (A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib import nn
from attnlib.models.families.decoder import Decoder, attend
from attnlib.models.files.checkpoint import Checkpoint, Source, fill
from attnlib.models.files.config import Fields
from attnlib.nn.initialisers import normal
from attnlib.nn.module import ArrayParameter

__all__ = ["Gpt2Config", "Gpt2Model", "read_config"]

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}


@dataclass(frozen=True)
class Gpt2Config:
    """What tells one model from another, named as in ``config.json``."""

    vocab_size: int
    n_embd: int
    n_layer: int
    n_head: int
    n_inner: int
    n_positions: int
    layer_norm_epsilon: float
    activation_function: str
    tie_word_embeddings: bool = True


def read_config(file: Fields) -> Gpt2Config:
    """Read a ``config.json``."""
    for field, usual in (("scale_attn_weights", True), ("scale_attn_by_inverse_layer_idx", False)):
        if file.boolean(field, usual) != usual:
            raise file.error(field, f"is {not usual}, which is not supported")
    width, heads = file.integer("n_embd", 1, 1 << 16), file.integer("n_head", 1, 1 << 10)
    if width % heads:
        raise file.error("n_head", f"{heads} does not divide n_embd {width}")
    return Gpt2Config(
        vocab_size=file.integer("vocab_size", 1, 1 << 24),
        n_embd=width,
        n_layer=file.integer("n_layer", 1, 1 << 10),
        n_head=heads,
        n_inner=file.integer("n_inner", 1, 1 << 18, default=4 * width),
        n_positions=file.integer("n_positions", 1, 1 << 20),
        layer_norm_epsilon=file.number("layer_norm_epsilon", 0.0, 0.1, default=1e-5),
        activation_function=file.choice("activation_function", _ACTIVATIONS, default="gelu_new"),
        tie_word_embeddings=file.boolean("tie_word_embeddings", True),
    )


class Gpt2Layer(nn.Module):
    """One layer: attention, then a feed-forward network, each after a norm and added to its input.

    Attributes
    ----------
    norm1, norm2 : nn.LayerNorm(d)
    in_proj : nn.Linear(d, 3 d)
    out_proj : nn.Linear(d, d)
    linear1 : nn.Linear(d, I)
    linear2 : nn.Linear(I, d)
    """

    def __init__(self, config: Gpt2Config) -> None:
        self._config = config
        width = config.n_embd
        self.norm1 = nn.LayerNorm(width, config.layer_norm_epsilon)
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width, config.layer_norm_epsilon)
        self.linear1 = nn.Linear(width, config.n_inner)
        self.linear2 = nn.Linear(config.n_inner, width)

    def __call__(self, x: NDArray[Any], cache: nn.KVCache | None, index: int) -> NDArray[Any]:
        """Run the layer on (B, S, d)."""
        heads = self._config.n_head
        mixed = self.in_proj(self.norm1(x)).reshape(*x.shape[:2], 3 * heads, -1).swapaxes(1, 2)
        attended = attend(mixed[:, :heads], mixed[:, heads : 2 * heads], mixed[:, 2 * heads :], cache, index)
        x = self.out_proj(attended, residual=x)
        inner = self.linear1(self.norm2(x), activation=self._config.activation_function)
        return self.linear2(inner, residual=x)


class Gpt2Model(Decoder):
    """A GPT-2 model.

    Parameters
    ----------
    config
        The sizes.

    Attributes
    ----------
    positions : (P, d)
    layers : list of Gpt2Layer
    norm : nn.LayerNorm(d)
    """

    def __init__(self, config: Gpt2Config) -> None:
        self.config = config
        self.vocab_size, self.context_length = config.vocab_size, config.n_positions
        self.num_layers, self.num_key_value_heads = config.n_layer, config.n_head
        self.head_dim = config.n_embd // config.n_head
        self.positions = ArrayParameter((config.n_positions, config.n_embd), normal)
        self.layers = [Gpt2Layer(config) for _ in range(config.n_layer)]
        self.norm = nn.LayerNorm(config.n_embd, config.layer_norm_epsilon)

    @property
    def width(self) -> int:
        """The size d of a hidden state."""
        return self.config.n_embd

    def hidden(self, ids: NDArray[np.intp], cache: nn.KVCache | None = None) -> NDArray[Any]:
        """Compute the last hidden states of `ids`, (B, S) to (B, S, d), after what is in `cache`."""
        places = np.arange(ids.shape[1])[None]
        if cache is not None:
            places = places + cache.positions[:, None]
        x = self.embed(ids) + self.positions.value[places]
        for index, layer in enumerate(self.layers):
            x = layer(x, cache, index)
        return self.norm(x)

    def load(self, checkpoint: Checkpoint) -> None:
        """Take the weights of a checkpoint, layer by layer.

        Raises
        ------
        ValueError
            If tensors are missing or do not fit the configuration.
        """
        # A checkpoint of the bare model (as that of gpt2 itself) has no prefix.
        prefix = "transformer." if "transformer.wte.weight" in checkpoint.shapes else ""
        tokens = f"{prefix}wte.weight"
        slots = dict(self.named_parameters())
        fill(slots, {name: _source(name, prefix) for name in slots}, checkpoint)
        self.load_tables(checkpoint, tokens, tokens if self.config.tie_word_embeddings else "lm_head.weight")


_NAMES = {
    "norm1": "ln_1",
    "in_proj": "attn.c_attn",
    "out_proj": "attn.c_proj",
    "norm2": "ln_2",
    "linear1": "mlp.c_fc",
    "linear2": "mlp.c_proj",
}


def _source(parameter: str, prefix: str) -> Source:
    """Find the tensor of a parameter such as ``layers.3.in_proj.weight``."""
    if parameter == "positions":
        return Source((f"{prefix}wpe.weight",))
    module, kind = parameter.rsplit(".", 1)
    if module == "norm":
        return Source((f"{prefix}ln_f.{kind}",))
    _, number, part = module.split(".")
    # The products of GPT-2 were written as x @ weight; vectors are left alone by a transposition.
    return Source((f"{prefix}h.{number}.{_NAMES[part]}.{kind}",), transposed=True)
