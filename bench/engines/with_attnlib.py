"""attnlib, as its users call it: results are new arrays, weights packed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

import attnlib as al
from attnlib import models, nn
from engines.engine import Call, Engine

Array = NDArray[Any]


class Attnlib(Engine):
    """attnlib on the rung that it chooses, or that ``ATTNLIB_ISA`` names."""

    name = "attnlib"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        al.set_num_threads(threads)
        self.simple = {
            "matmul": al.matmul,
            "softmax": al.softmax,
            "log_softmax": al.log_softmax,
            "layer_norm": al.layer_norm,
            "rms_norm": al.rms_norm,
            "relu": al.relu,
            "gelu": al.gelu,
            "gelu_tanh": lambda x: al.gelu(x, "tanh"),
            "silu": al.silu,
            "tanh": al.tanh,
            "sigmoid": al.sigmoid,
            "swiglu": al.swiglu,
            "rotary_embedding": al.rotary_embedding,
            "attention_varlen": al.attention_varlen,
            "merge_attention": lambda outs, lses: al.merge_attention(outs, lses)[0],
        }

    @property
    def version(self) -> str:
        return f"{al.__version__} ({al.isa()})"

    def attention(self, query: Array, key: Array, value: Array, causal: bool) -> list[Call]:
        return [Call("attention", lambda: al.attention(query, key, value, causal=causal))]

    def linear(self, x: Array, weight: Array, bias: Array, activation: str | None) -> list[Call]:
        packed = al.pack_weight(weight)
        return [Call("linear, packed", lambda: al.linear(x, packed, bias, activation=activation))]

    def encoder_layer(self, x: Array, state: dict[str, Array], heads: int) -> list[Call]:
        inner, size = state["linear1.weight"].shape
        layer = nn.TransformerEncoderLayer(size, heads, inner, activation="gelu")
        layer.load_state_dict(state)
        return [Call("nn.TransformerEncoderLayer", lambda: layer(x))]

    def encode(self, folder: Path, texts: list[str]) -> list[Call]:
        encoder = models.load(folder)
        return [Call("encode", lambda: encoder.encode(texts))]


ENGINE = Attnlib
