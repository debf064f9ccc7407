"""Weights of models and layers are those of their forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import decoders, encoder_decoders, folders

import attnlib as al
from attnlib import models, nn, viz

Array = np.ndarray[Any, Any]


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet"])
def test_an_encoder(family: str, tmp_path: Path) -> None:
    """The values, attended to with these weights, are what the layers hand on; and MPNet's have its bias."""
    encoder = models.load(folders.make(tmp_path, family).write())
    before = encoder.encode("the cat sat on unheard mats")
    maps = viz.attention_weights(encoder, "the cat sat on unheard mats")
    assert encoder.encode("the cat sat on unheard mats").tobytes() == before.tobytes()
    assert maps.queries == maps.keys == ("[CLS]", "the", "cat", "sat", "on", "[UNK]", "[UNK]", "[SEP]")
    assert (maps.kind, maps.layers, maps.weights.shape) == ("encoder", (0, 1), (2, 3, 8, 8))
    np.testing.assert_allclose(maps.weights.sum(-1), 1, atol=1e-6)

    ids, offsets = np.array([2, 4, 5, 6, 7, 1, 1, 3]), np.array([0, 8])
    x = encoder.model.embed(ids, offsets)
    layer = encoder.model.encoder.layers[0].self_attn
    bias = encoder.model.relative_attention_bias(8) if family == "mpnet" else None
    _, weights = layer(x, bias=bias, need_weights=True)
    np.testing.assert_allclose(maps.layer(0), weights, atol=1e-6)


def test_a_language_model(tmp_path: Path) -> None:
    """Causal, a map for each query head, tokens as text; layers and token numbers as asked for."""
    model = models.load(decoders.write_folder(tmp_path))
    maps = viz.attention_weights(model, "Öl, ja")
    assert maps.queries == ("\\xc3", "\\x96", "l", ",", " ", "j", "a")
    assert (maps.kind, maps.weights.shape) == ("decoder", (2, 4, 7, 7))
    assert not np.triu(maps.weights, 1).any()
    np.testing.assert_allclose(maps.weights.sum(-1), 1, atol=1e-6)
    ids = model.encode("Öl, ja")
    one = viz.attention_weights(model, ids, layers=[1])
    assert one.layers == (1,)
    assert one.layer(1).tobytes() == maps.layer(1).tobytes()
    assert viz.attention_weights(model, ids, layers=1).layers == (1,)
    assert viz.attention_weights(model, ids, layers=np.array([1, 0])).layers == (0, 1)
    model.tokenizer = None
    assert viz.attention_weights(model, [5, 256, 259]).queries == ("5", "256", "259")


def test_a_token_that_the_tokenizer_does_not_know(tmp_path: Path) -> None:
    model = models.load(decoders.write_folder(tmp_path))
    assert viz.attention_weights(model, [65, 256, 259]).queries == ("b", "<end>", "259")


def test_bfloat16(tmp_path: Path) -> None:
    model = models.load(decoders.write_folder(tmp_path), dtype="bfloat16")
    assert viz.attention_weights(model, "abc").weights.dtype == np.float32


@pytest.mark.parametrize(
    ("family", "text", "options", "error", "message"),
    [
        ("bert", ["a", "b"], {}, TypeError, "takes a str, got list"),
        ("bert", "cat", {"layers": [2]}, ValueError, "no layer 2, but 0 to 1"),
        ("bert", "cat", {"layers": []}, ValueError, "no layer is asked for"),
        ("llama", "", {}, ValueError, "empty"),
        ("llama", "cat" * 50, {}, ValueError, "has 150 tokens, the context is 128"),
        ("llama", [[1, 2]], {}, ValueError, r"one sequence, got shape \(1, 2\)"),
        ("llama", "cat", {"target": [1]}, TypeError, "a LanguageModel takes no target"),
        ("llama", [1, 260], {}, ValueError, "260"),
        ("llama", "\ud800", {}, ValueError, "not valid Unicode"),
        ("none", "cat", {}, TypeError, "got TransformerEncoder; record_attention takes"),
    ],
)
def test_bad_input(
    family: str, text: Any, options: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    if family == "none":
        model: Any = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1)
    elif family == "llama":
        model = models.load(decoders.write_folder(tmp_path))
    else:
        model = models.load(folders.make(tmp_path, family).write())
    with pytest.raises(error, match=message):
        viz.attention_weights(model, text, **options)


def test_recording_layers(rng: np.random.Generator) -> None:
    """A whole nn.Transformer: encoder layers, then self- and cross-attention in turn."""
    transformer = nn.Transformer(8, 2, 2, 2, 16)
    src, tgt = rng.standard_normal((2, 3, 7, 8))[:, :, :5], rng.standard_normal((2, 3, 4, 8))
    with viz.record_attention() as weights:
        transformer(src[0], tgt[0])
    assert [array.shape for array in weights] == [(3, 2, 5, 5)] * 2 + [(3, 2, 4, 4), (3, 2, 4, 5)] * 2
    assert not np.triu(weights[2], 1).any()
    _, wanted = transformer.encoder.layers[0].self_attn(src[0], need_weights=True)
    np.testing.assert_allclose(weights[0], wanted, atol=1e-6)


@pytest.mark.parametrize("family", ["t5", "marian"])
def test_a_text_to_text_model(family: str, tmp_path: Path) -> None:
    """What it writes itself without the token that ends it, or what it is told to have written."""
    model = models.load(encoder_decoders.write_folder(tmp_path, family))
    written = model.generate("bak bal bem").tokens
    encoder, decoder, cross = viz.attention_weights(model, "bak bal bem")
    assert encoder.queries == encoder.keys == cross.keys == ("bak", "bal", "bem", "</s>")
    words = [encoder_decoders.WORDS[number] for number in written if number != 1]
    assert decoder.queries == decoder.keys == cross.queries == ("<pad>", *words)
    assert [maps.kind for maps in (encoder, decoder, cross)] == ["encoder", "decoder", "cross"]
    assert cross.weights.shape == (2, 3 if family == "t5" else 4, len(words) + 1, 4)
    for maps in (encoder, decoder, cross):
        np.testing.assert_allclose(maps.weights.sum(-1), 1, atol=1e-5)
    assert not np.triu(decoder.weights, 1).any()
    ids = model.encode("bak bal bem")
    _, told, looked_at = viz.attention_weights(model, ids, target=written[:2], layers=[1])
    assert (told.layers, looked_at.queries) == ((1,), cross.queries[:3])
    # What comes later does not change what came before.
    np.testing.assert_allclose(told.layer(1), decoder.layer(1)[:, :3, :3], atol=1e-5)
    with pytest.raises(ValueError, match="unknown"):
        viz.attention_weights(model, ids, target=[len(encoder_decoders.WORDS)])


class Translator:
    """The three steps of an encoder-decoder, made of the layers of an nn.Transformer."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.network = nn.Transformer(8, 2, 1, 2, 16)
        self.table = rng.standard_normal((20, 8)).astype(np.float32)

    def encode(self, inputs: Any) -> Array:
        return self.network.encoder(self.table[np.asarray(inputs)])

    def begin(self, memory: Array, *, capacity: int) -> Array:
        assert capacity == 3
        return memory

    def hidden(self, ids: Array, past: Array) -> Array:
        return self.network.decoder(self.table[ids], past)


def test_an_encoder_decoder(rng: np.random.Generator) -> None:
    model = Translator(rng)
    source, target = [[3, 4, 5, 6]], [[0, 1, 2]]
    encoder, decoder, cross = viz.encoder_decoder_weights(model, source, target, list("abcd"), list("xyz"))
    found = [(maps.kind, maps.weights.shape, maps.queries, maps.keys) for maps in (encoder, decoder, cross)]
    assert found == [
        ("encoder", (1, 2, 4, 4), tuple("abcd"), tuple("abcd")),
        ("decoder", (2, 2, 3, 3), tuple("xyz"), tuple("xyz")),
        ("cross", (2, 2, 3, 4), tuple("xyz"), tuple("abcd")),
    ]
    assert not np.triu(decoder.weights, 1).any()
    layer = model.network.decoder.layers[0]
    x = model.table[np.array(target)]
    x = layer.norm1(x + layer.self_attn(x, causal=True))
    _, wanted = layer.multihead_attn(x, model.encode(source), need_weights=True)
    np.testing.assert_allclose(cross.layer(0), wanted[0], atol=1e-5)
    with pytest.raises(ValueError, match="no layer 1, but 0 to 0"):
        viz.encoder_decoder_weights(model, source, target, layers=[1])


def test_statistics_of_a_model(tmp_path: Path) -> None:
    """As the docstring of `attention_statistics` says: no weights are kept, and they tell what maps would."""
    model = models.load(decoders.write_folder(tmp_path))
    found: list[viz.AttentionStatistics] = []
    with al.functional.observe_attention(
        lambda call: found.append(viz.attention_statistics(call.query, call.key, **call.options))
    ):
        model(np.array([model.encode("the cat sat")]))
    maps = viz.attention_weights(model, "the cat sat")
    assert len(found) == len(maps.layers)
    for number, statistics in zip(maps.layers, found, strict=True):
        weights = maps.layer(number).astype(np.float64)
        np.testing.assert_allclose(statistics.received[0], weights.sum(-2), atol=1e-5)
        np.testing.assert_allclose(statistics.top_weights[0, ..., 0], weights.max(-1), atol=1e-6)


def test_importing_attnlib_does_not_import_this(run_python: Any) -> None:
    run_python(
        "import sys, attnlib\n"
        "assert not any('viz' in name or 'matplotlib' in name for name in sys.modules)\n"
        "attnlib.viz.attention_statistics\n"
        "assert not any('matplotlib' in name or name == 'attnlib.models' for name in sys.modules)\n"
    )
    assert "viz" in al.__all__
