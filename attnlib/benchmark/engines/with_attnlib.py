"""attnlib, as its users call it: results are new arrays, weights packed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import attnlib as al
from attnlib import models, nn
from attnlib.benchmark.engines.engine import Array, Call, Engine
from attnlib.benchmark.sounds import bits
from attnlib.models.families.decoder import Decoder

__all__ = ["ENGINE"]


class Attnlib(Engine):
    """attnlib on the rung that it chooses, or that ``ATTNLIB_ISA`` names."""

    name = "attnlib"
    simple_precisions = ("float32", "bfloat16")

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
            "attention": lambda query, key, value, causal: al.attention(query, key, value, causal=causal),
            "attention_varlen": al.attention_varlen,
            "merge_attention": lambda outs, lses: al.merge_attention(outs, lses)[0],
        }

    @property
    def version(self) -> str:
        return f"{al.__version__} ({al.isa()})"

    def own(self, value: Any, precision: str) -> Any:
        if precision == "bfloat16" and isinstance(value, np.ndarray) and value.dtype == np.float32:
            return value.astype(ml_dtypes.bfloat16)
        return value

    def linear(
        self, precision: str, x: Array, weight: Array, bias: Array, activation: str | None
    ) -> list[Call]:
        packed = al.pack_weight(weight, dtype=precision)
        rows, addend = self.own(x, precision), self.own(bias, precision)
        return [
            Call("linear, packed", lambda: al.linear(rows, packed, addend, activation=activation), self.array)
        ]

    def encoder_layer(self, precision: str, x: Array, state: dict[str, Array], heads: int) -> list[Call]:
        inner, size = state["linear1.weight"].shape
        layer = nn.TransformerEncoderLayer(size, heads, inner, activation="gelu")
        layer.load_state_dict(state)
        if precision != "float32":
            layer.to(precision)
        rows = self.own(x, precision)
        return [Call("nn.TransformerEncoderLayer", lambda: layer(rows), self.array)]

    def lstm(self, precision: str, x: Array, state: dict[str, Array]) -> list[Call]:
        units, inputs = state["weight_hh_l0"].shape[1], x.shape[-1]
        layer = nn.LSTM(inputs, units)
        layer.load_state_dict(state)
        return [Call("nn.LSTM", lambda: layer(x)[0])]

    def speech_front_end(self, precision: str, x: Array, state: dict[str, Array]) -> list[Call]:
        size, mels, _ = state["conv1.weight"].shape
        first, second = nn.Conv1d(mels, size, 3, padding=1), nn.Conv1d(size, size, 3, stride=2, padding=1)
        for name, layer in (("conv1", first), ("conv2", second)):
            layer.load_state_dict({part: state[f"{name}.{part}"] for part in ("weight", "bias")})
        return [Call("nn.Conv1d", lambda: al.gelu(second(al.gelu(first(x)))))]

    def model(self, precision: str, folder: Path, ids: Array) -> list[Call]:
        encoder = models.load_sentence_encoder(folder, dtype=precision)
        tokens = ids.astype(np.intp).reshape(-1)
        cu_seqlens = np.arange(len(ids) + 1) * ids.shape[1]

        def vectors(hidden: Array) -> Array:
            means = self.array(hidden).reshape(*ids.shape, -1).mean(axis=1)
            result: Array = means / np.linalg.norm(means, axis=-1, keepdims=True)
            return result

        return [Call("SentenceEncoder.model", lambda: encoder.model(tokens, cu_seqlens), vectors)]

    def encode(self, precision: str, folder: Path, texts: list[str]) -> list[Call]:
        encoder = models.load_sentence_encoder(folder, dtype=precision)
        return [Call("encode", lambda: encoder.encode(texts))]

    def prompt(self, precision: str, file: Path, tokens: Array) -> list[Call]:
        decoder = _decoder(file, precision)

        def run() -> Array:
            cache = decoder.cache(1, len(tokens))
            logits: Array = decoder.logits(decoder.hidden(tokens[None], cache)[:, -1])
            last: Array = logits[0]
            return last

        return [Call("LanguageModel.decoder", run)]

    def writing(self, precision: str, file: Path, tokens: Array, beginning: int) -> list[Call]:
        decoder = _decoder(file, precision)

        def run() -> Array:
            cache = decoder.cache(1, len(tokens))
            logits: Array = decoder.logits(decoder.hidden(tokens[None, :beginning], cache)[:, -1])
            for place in range(beginning, len(tokens)):
                logits.argmax()
                logits = decoder.logits(decoder.hidden(tokens[None, place : place + 1], cache)[:, -1])
            last: Array = logits[0]
            return last

        return [Call("LanguageModel.decoder", run)]

    def speech_encoder(self, precision: str, folder: Path, features: Array) -> list[Call]:
        network = _speech_model(folder, precision).network
        return [Call("WhisperModel.encode", lambda: network.encode(features), self.array)]

    def transcription(self, precision: str, folder: Path, sound: Array) -> list[Call]:
        model = _speech_model(folder, precision)

        def tokens(result: models.Transcription) -> Array:
            return bits([token for segment in result.segments for token in segment.tokens])

        return [Call("SpeechModel.transcribe", lambda: model.transcribe(sound, temperature=0), tokens)]


def _decoder(file: Path, precision: str) -> Decoder:
    model = models.load(file, dtype=precision)
    assert isinstance(model, models.LanguageModel)
    return model.decoder


def _speech_model(folder: Path, precision: str) -> models.SpeechModel:
    model = models.load(folder, dtype=precision)
    assert isinstance(model, models.SpeechModel)
    return model


ENGINE = Attnlib
