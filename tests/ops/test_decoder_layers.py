"""A stack of decoder layers in one call: the bits of the operations that it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib as al
from attnlib import nn
from attnlib.functional import (
    DecoderLayerParts,
    DecoderLayerPast,
    cached_attention,
    decoder_layers,
    observe_attention,
)
from attnlib.functional.observer import AttentionCall
from attnlib.nn import one_call
from ops.test_sublayers import KINDS, Drawing

Array = NDArray[Any]

WIDTH, INNER, HEADS, CAPACITY = 24, 101, 3, 40


def drawn_layer(drawing: Drawing, **changes: Any) -> DecoderLayerParts:
    parts = DecoderLayerParts(
        in_proj=drawing.weight(3 * WIDTH, WIDTH),
        in_bias=drawing.array(3 * WIDTH),
        out_proj=drawing.weight(WIDTH, WIDTH),
        out_bias=drawing.array(WIDTH),
        query_proj=drawing.weight(WIDTH, WIDTH),
        query_bias=drawing.array(WIDTH),
        memory_out_proj=drawing.weight(WIDTH, WIDTH),
        memory_out_bias=drawing.array(WIDTH),
        linear1=drawing.weight(INNER, WIDTH),
        linear1_bias=drawing.array(INNER),
        linear2=drawing.weight(WIDTH, INNER),
        linear2_bias=drawing.array(WIDTH),
        norm1_weight=drawing.array(WIDTH),
        norm1_bias=drawing.array(WIDTH),
        norm1_eps=1e-5,
        norm2_weight=drawing.array(WIDTH),
        norm2_bias=drawing.array(WIDTH),
        norm2_eps=1e-3,
        norm3_weight=drawing.array(WIDTH),
        norm3_bias=drawing.array(WIDTH),
        norm3_eps=1e-4,
        heads=HEADS,
        activation="gelu",
        norm_first=False,
    )
    return parts._replace(**changes)


def drawn_past(
    drawing: Drawing, lengths: list[int], memory_lengths: list[int], places: int, heads: int = HEADS
) -> DecoderLayerPast:
    size = WIDTH // heads
    cache, memory = (len(lengths), heads, CAPACITY, size), (len(memory_lengths), heads, places, size)
    return DecoderLayerPast(
        drawing.array(*cache),
        drawing.array(*cache),
        np.array(lengths, np.int64),
        drawing.array(*memory),
        drawing.array(*memory),
        np.array(memory_lengths, np.int64),
    )


def copied(pasts: list[DecoderLayerPast]) -> list[DecoderLayerPast]:
    return [
        past._replace(key_cache=past.key_cache.copy(), value_cache=past.value_cache.copy()) for past in pasts
    ]


def one_by_one(x: Array, layers: list[DecoderLayerParts], pasts: list[DecoderLayerPast]) -> Array:
    """What one call must equal, and write into the caches."""
    for layer, past in zip(layers, pasts, strict=True):

        def norm(number: int, rows: Array, layer: DecoderLayerParts = layer) -> Array:
            weight, bias, eps = (getattr(layer, f"norm{number}_{part}") for part in ("weight", "bias", "eps"))
            return al.layer_norm(rows, weight, bias, eps=eps)

        first = layer.norm_first
        size = x.shape[2] // layer.heads
        mixed = al.linear(norm(1, x) if first else x, layer.in_proj, layer.in_bias)
        query, key, value = np.moveaxis(mixed.reshape(*x.shape[:2], 3, layer.heads, size), 2, 0).swapaxes(
            2, 3
        )
        attended = cached_attention(query, key, value, past.key_cache, past.value_cache, past.lengths)
        x = al.linear(attended.reshape(x.shape), layer.out_proj, layer.out_bias, residual=x)
        x = x if first else norm(1, x)
        query = al.linear(norm(2, x) if first else x, layer.query_proj, layer.query_bias)
        attended = al.attention(
            query.reshape(*x.shape[:2], layer.heads, size).swapaxes(1, 2),
            past.key,
            past.value,
            key_lengths=past.memory_lengths,
        )
        attended = np.ascontiguousarray(attended.swapaxes(1, 2)).reshape(x.shape)
        x = al.linear(attended, layer.memory_out_proj, layer.memory_out_bias, residual=x)
        x = x if first else norm(2, x)
        inner = al.linear(
            norm(3, x) if first else x, layer.linear1, layer.linear1_bias, activation=layer.activation
        )
        x = al.linear(inner, layer.linear2, layer.linear2_bias, residual=x)
        x = x if first else norm(3, x)
    return x


def check(x: Array, layers: list[DecoderLayerParts], pasts: list[DecoderLayerPast]) -> None:
    others = copied(pasts)
    found = decoder_layers(x, layers, pasts)
    expected = one_by_one(x, layers, others)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    for past, other in zip(pasts, others, strict=True):
        np.testing.assert_array_equal(past.key_cache, other.key_cache)
        np.testing.assert_array_equal(past.value_cache, other.value_cache)


@pytest.mark.parametrize(("dtype", "weights"), KINDS)
@pytest.mark.parametrize("norm_first", [False, True])
def test_bits(dtype: str, weights: str, norm_first: bool, rng: np.random.Generator) -> None:
    drawing = Drawing(rng, dtype, weights)
    layers = [
        drawn_layer(drawing, norm_first=norm_first),
        drawn_layer(drawing, in_bias=None, query_bias=None, norm2_bias=None, activation="relu"),
        drawn_layer(drawing, heads=1, norm3_weight=None, norm3_bias=None, norm_first=norm_first),
    ]
    for lengths, memory_lengths, places, new_tokens in (
        ([0], [5], 5, 1),
        ([7, 0, 31], [9, 1, 0], 9, 1),  # of no memory there is nothing to read
        ([3, 3], [300], 300, 1),  # beams that share a memory
        ([2, 20], [4, 70], 70, 5),
        ([0], [3], 8, 33),
        ([], [], 3, 2),
        ([4], [2], 2, 0),
    ):
        pasts = [drawn_past(drawing, lengths, memory_lengths, places, layer.heads) for layer in layers]
        check(drawing.array(len(lengths), new_tokens, WIDTH), layers, pasts)


@pytest.mark.parametrize(("dtype", "weights"), KINDS)
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_threads_stay_together(
    dtype: str, weights: str, norm_first: bool, threads: int, rng: np.random.Generator
) -> None:
    """Long enough to be worth threads; the last panels are partial, and some threads have no head."""
    drawing = Drawing(rng, dtype, weights)
    layers = [
        drawn_layer(drawing, norm_first=norm_first),
        drawn_layer(drawing, norm_first=norm_first, heads=1),
    ]
    batch = 53
    lengths, memory_lengths = rng.integers(0, 17, batch).tolist(), rng.integers(1, 30, batch).tolist()
    pasts = [drawn_past(drawing, lengths, memory_lengths, 30, layer.heads) for layer in layers]
    with al.num_threads(threads):
        check(drawing.array(batch, 23, WIDTH), layers, pasts)
        decoder_layers(drawing.array(batch, 23, WIDTH), layers, pasts)
        assert al.last_dispatch().threads > 1


def test_any_layout_is_read(rng: np.random.Generator) -> None:
    drawing = Drawing(rng, "float32", "float32")
    layer, past = drawn_layer(drawing), drawn_past(drawing, [2, 5], [4, 3], 4)
    x = np.asfortranarray(drawing.array(2, 3, WIDTH))
    strided = layer._replace(query_bias=np.repeat(np.asarray(layer.query_bias), 2)[::2])
    wide = np.zeros((2, HEADS, 2 * CAPACITY, 2, WIDTH // HEADS), np.float32)
    key_cache, value_cache = wide[:, :, ::2, 0], wide[:, :, 1::2, 1]
    key_cache[...], value_cache[...] = past.key_cache, past.value_cache
    apart = past._replace(
        key_cache=key_cache,
        value_cache=value_cache,
        lengths=np.array([2, 5], np.int32),
        key=np.asfortranarray(past.key),
        value=np.broadcast_to(past.value[:1], past.value.shape),
    )
    past = past._replace(value=past.value[[0, 0]])
    expected = decoder_layers(np.ascontiguousarray(x), [layer], [past])
    np.testing.assert_array_equal(decoder_layers(x, [strided], [apart]), expected)
    np.testing.assert_array_equal(key_cache, past.key_cache)
    np.testing.assert_array_equal(value_cache, past.value_cache)


def test_refusals(rng: np.random.Generator) -> None:
    drawing = Drawing(rng, "float32", "float32")
    layer, past, x = drawn_layer(drawing), drawn_past(drawing, [5, 2], [4, 3], 4), drawing.array(2, 3, WIDTH)
    kept = copied([past])[0]
    for changes, text in (
        ({"in_proj": layer.out_proj}, rf"layers\[0\]: in_proj must be \({3 * WIDTH}, {WIDTH}\), got shape"),
        ({"query_proj": layer.in_proj}, rf"layers\[0\]: query_proj must be \({WIDTH}, {WIDTH}\), got shape"),
        ({"linear2": layer.out_proj}, rf"layers\[0\]: linear2 must be \({WIDTH}, {INNER}\), got shape"),
        (
            {"query_bias": np.ones(3, np.float32)},
            r"layers\[0\]: query_bias must be \(24,\), got shape \(3,\)",
        ),
        ({"norm3_weight": np.ones(3, np.float32)}, r"layers\[0\]: norm3"),
        ({"norm2_eps": -1.0}, r"layers\[0\]: norm2.*eps"),
        ({"heads": 5}, r"layers\[0\]: heads must divide E = 24, got 5"),
        ({"heads": 1}, r"pasts\[0\]: key_cache must be \(2, 1, 40, 24\), got shape \(2, 3, 40, 8\)"),
        ({"activation": "swish"}, r"layers\[0\]: activation must be None, 'relu'.*got 'swish'"),
    ):
        with pytest.raises(ValueError, match=text):
            decoder_layers(x, [layer._replace(**changes)], [past])
    for changes, text in (
        ({"lengths": [5]}, r"pasts\[0\]: lengths must be \(2,\), got shape \(1,\)"),
        ({"lengths": [5, 38]}, r"pasts\[0\]: lengths must lie between 0 and 37, the capacity.*got 38"),
        ({"lengths": [-1, 3]}, r"pasts\[0\]: lengths must lie between 0 and 37.*got -1"),
        ({"memory_lengths": [4, 5]}, r"pasts\[0\]: memory_lengths must lie between 0 and 4.*got 5"),
        ({"memory_lengths": [4]}, r"pasts\[0\]: memory_lengths must be \(2,\), got shape \(1,\)"),
        ({"key": past.key[:, :2]}, r"pasts\[0\]: key must be \(2, 3, 4, 8\), got shape \(2, 2, 4, 8\)"),
        ({"value": past.value[:, :, :3]}, r"pasts\[0\]: value must be \(2, 3, 4, 8\), got shape"),
        ({"key": past.key[0]}, r"pasts\[0\]: key must have four axes, got shape \(3, 4, 8\)"),
        ({"value_cache": past.key_cache}, r"pasts\[0\]: key_cache and value_cache must share no memory"),
        (
            {"key_cache": past.key_cache[:, :, :2], "value_cache": past.value_cache[:, :, :2]},
            r"pasts\[0\]: key_cache must have room for 3 new tokens, got a capacity of 2",
        ),
        ({"key_cache": np.broadcast_to(past.key_cache[:1], past.key_cache.shape)}, r"pasts\[0\]: key_cache"),
        ({"key": past.key_cache[:, :, :4]}, r"pasts\[0\]: key_cache must share no memory with key"),
    ):
        with pytest.raises(ValueError, match=text):
            decoder_layers(x, [layer], [past._replace(**changes)])
    for changes, text in (
        ({"key": past.key.astype(np.float64)}, r"pasts\[0\]: key must be float32.*got float64"),
        ({"key_cache": past.key_cache.tolist()}, r"pasts\[0\]: key_cache must be a numpy.ndarray, got list"),
        ({"value_cache": past.value_cache.astype(np.float16)}, r"pasts\[0\]: value_cache must be float32"),
        ({"lengths": None}, r"pasts\[0\]: lengths must be integers \(B,\), got None"),
        ({"lengths": [0.5, 1.0]}, r"pasts\[0\]: lengths must be integers"),
        ({"memory_lengths": 4}, r"pasts\[0\]: memory_lengths must be integers \(B,\), got 4"),
    ):
        with pytest.raises(TypeError, match=text):
            decoder_layers(x, [layer], [past._replace(**changes)])
    with pytest.raises(TypeError, match=r"layers\[0\]: memory_out_proj must be a PackedWeight, got ndarray"):
        decoder_layers(x, [layer._replace(memory_out_proj=np.ones((WIDTH, WIDTH)))], [past])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"layers\[0\] must be DecoderLayerParts, got PackedWeight"):
        decoder_layers(x, layer, [past])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pasts\[0\] must be DecoderLayerPast, got ndarray"):
        decoder_layers(x, [layer], past)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers must not be empty"):
        decoder_layers(x, [], [])
    with pytest.raises(ValueError, match="pasts must be one for each of the 1 layers, got 2"):
        decoder_layers(x, [layer], [past, past])
    with pytest.raises(ValueError, match=r"x must be \(B, S, E\), got shape \(3, 24\)"):
        decoder_layers(x[0], [layer], [past])
    np.testing.assert_array_equal(past.key_cache, kept.key_cache)
    np.testing.assert_array_equal(past.value_cache, kept.value_cache)


def begun(decoder: nn.TransformerDecoder, rng: np.random.Generator, dtype: Any) -> nn.DecoderPast:
    memory = rng.standard_normal((2, 6, WIDTH)).astype(dtype)
    return decoder.begin(memory, [6, 4], capacity=2)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float64"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_decoder_takes_it_for_few_tokens(
    dtype: str, norm_first: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = nn.TransformerDecoderLayer(WIDTH, HEADS, INNER, norm_first=norm_first, rng=rng)
    decoder = nn.TransformerDecoder(layer, 2, nn.LayerNorm(WIDTH)).to(dtype)
    array_dtype = decoder.layers[0].norm1.state_dict()["weight"].dtype
    past = begun(decoder, rng, array_dtype)
    beams, others = past.fork(2)
    steps = [rng.standard_normal((2, count, WIDTH)).astype(array_dtype) for count in (1, 4, 1, 1, 1)]

    def results(past: nn.DecoderPast) -> list[Array]:
        found = [decoder(step, cache=past) for step in steps[:-1]]
        past.reorder([1, 1])
        return [*found, decoder(steps[-1], cache=past)]

    found = results(beams)
    assert al.last_dispatch().operation == "layer_norm"
    decoder.norm = None
    decoder(steps[-1], cache=beams)
    assert al.last_dispatch().operation == "decoder_layers"
    decoder.norm = nn.LayerNorm(WIDTH).to(dtype)
    beams.target.truncate(beams.target.lengths - 1)
    monkeypatch.setattr(one_call, "FEW_TOKENS", 0)
    for one, other in zip(found, results(others), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    for index in range(2):
        for mine, theirs in zip(beams.target.read(index), others.target.read(index), strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_decoder_leaves_the_rest_to_its_layers(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    class OwnLayer(nn.TransformerDecoderLayer):
        def __call__(self, tgt: Any, *arguments: Any, **options: Any) -> Array:
            return super().__call__(tgt, *arguments, **options) + 1

    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, INNER, rng=rng), 2)
    past, x = begun(decoder, rng, np.float32), rng.standard_normal((2, 1, WIDTH)).astype(np.float32)
    plain, watched, masked, owned, wide = past.fork(5)
    expected = decoder(x, cache=plain)
    calls: list[AttentionCall] = []
    with observe_attention(calls.append):
        np.testing.assert_array_equal(decoder(x, cache=watched), expected)
    assert len(calls) == 4
    np.testing.assert_array_equal(decoder(x, cache=masked, mask=np.ones((1, 1), bool)), expected)
    usual, decoder.layers[1] = decoder.layers[1], OwnLayer(WIDTH, HEADS, INNER)
    decoder.layers[1].load_state_dict(usual.state_dict())
    np.testing.assert_array_equal(decoder(x, cache=owned), expected + 1)
    decoder.layers[1] = usual
    usual.linear1.to("float64")
    usual.linear2.to("float64")
    assert decoder(x, cache=wide).dtype == np.float64
    usual.to("float32")
    with pytest.raises(ValueError, match="memory, tgt_lengths and memory_lengths do not go with cache"):
        decoder(x, x, cache=plain)


def test_a_step_that_is_refused_leaves_the_past(rng: np.random.Generator) -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, INNER, rng=rng), 2)
    begin = begun(decoder, rng, np.float32)
    target = nn.KVCache(2, 2, HEADS, WIDTH // HEADS, max_length=2)
    past, x = nn.DecoderPast(target, begin.memory), rng.standard_normal((2, 1, WIDTH)).astype(np.float32)
    expected = [decoder(x, cache=begin) for _ in range(2)]
    for step in expected:
        np.testing.assert_array_equal(decoder(x, cache=past), step)
    with pytest.raises(ValueError, match="max_length"):
        decoder(x, cache=past)
    with pytest.raises(ValueError, match="TransformerDecoderLayer"):
        decoder(x[:1], cache=past)
    with pytest.raises(ValueError, match="TransformerDecoderLayer"):
        decoder(x[..., :-1], cache=past)
    assert target.lengths.tolist() == [2, 2]


def test_caches_of_other_kinds(rng: np.random.Generator) -> None:
    """A window or int8 codes are the layers' own affair."""
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(WIDTH, HEADS, INNER, rng=rng), 2)
    memory = begun(decoder, rng, np.float32).memory
    steps = rng.standard_normal((5, 2, 1, WIDTH)).astype(np.float32)
    for options, tolerance in (({"dtype": "int8"}, 0.1), ({"window": 9}, 0.0)):
        exact = nn.DecoderPast(nn.KVCache(2, 2, HEADS, WIDTH // HEADS), memory)
        other = nn.DecoderPast(nn.KVCache(2, 2, HEADS, WIDTH // HEADS, **options), memory)  # type: ignore[arg-type]
        for step in steps:
            expected = decoder(step, cache=exact)
            found = decoder(step, cache=other)
            assert al.last_dispatch().operation != "decoder_layers"
            np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
