"""A stack of encoder layers in one call: the bits of the operations that it is made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib as al
from attnlib import nn
from attnlib.functional import EncoderLayerParts, encoder_layers, observe_attention
from attnlib.functional.observer import AttentionCall
from attnlib.nn import one_call
from ops.test_sublayers import KINDS, Drawing

Array = NDArray[Any]

WIDTH, INNER, HEADS = 24, 101, 3


def drawn_layer(drawing: Drawing, **changes: Any) -> EncoderLayerParts:
    parts = EncoderLayerParts(
        in_proj=drawing.weight(3 * WIDTH, WIDTH),
        in_bias=drawing.array(3 * WIDTH),
        out_proj=drawing.weight(WIDTH, WIDTH),
        out_bias=drawing.array(WIDTH),
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
        heads=HEADS,
        activation="gelu",
        norm_first=False,
    )
    return parts._replace(**changes)


def one_by_one(x: Array, layers: list[EncoderLayerParts], cu_seqlens: Array, causal: bool) -> Array:
    """What one call must equal."""
    for layer in layers:

        def norm1(rows: Array, layer: EncoderLayerParts = layer) -> Array:
            return al.layer_norm(rows, layer.norm1_weight, layer.norm1_bias, eps=layer.norm1_eps)

        def norm2(rows: Array, layer: EncoderLayerParts = layer) -> Array:
            return al.layer_norm(rows, layer.norm2_weight, layer.norm2_bias, eps=layer.norm2_eps)

        mixed = al.linear(norm1(x) if layer.norm_first else x, layer.in_proj, layer.in_bias)
        heads = mixed.reshape(len(x), 3, layer.heads, x.shape[1] // layer.heads)
        attended = al.attention_varlen(heads[:, 0], heads[:, 1], heads[:, 2], cu_seqlens, causal=causal)
        x = al.linear(attended.reshape(x.shape), layer.out_proj, layer.out_bias, residual=x)
        x = x if layer.norm_first else norm1(x)
        inner = al.linear(
            norm2(x) if layer.norm_first else x,
            layer.linear1,
            layer.linear1_bias,
            activation=layer.activation,
        )
        x = al.linear(inner, layer.linear2, layer.linear2_bias, residual=x)
        x = x if layer.norm_first else norm2(x)
    return x


@pytest.mark.parametrize(("dtype", "weights"), KINDS)
@pytest.mark.parametrize("norm_first", [False, True])
def test_bits(dtype: str, weights: str, norm_first: bool, rng: np.random.Generator) -> None:
    drawing = Drawing(rng, dtype, weights)
    layers = [
        drawn_layer(drawing, norm_first=norm_first),
        drawn_layer(drawing, in_bias=None, linear2_bias=None, norm1_bias=None, activation="relu"),
        drawn_layer(drawing, heads=1, norm2_weight=None, norm2_bias=None, norm_first=norm_first),
    ]
    for lengths, causal in (([1], False), ([17], True), ([3, 0, 9, 1], False), ([30, 2], True), ([], False)):
        cu_seqlens = np.cumsum([0, *lengths])
        x = drawing.array(sum(lengths), WIDTH)
        found = encoder_layers(x, layers, cu_seqlens, causal=causal)
        expected = one_by_one(x, layers, cu_seqlens, causal)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


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
    cu_seqlens = np.array([0, 400, 400, 1331])
    x = drawing.array(1331, WIDTH)
    with al.num_threads(threads):
        found = encoder_layers(x, layers, cu_seqlens, causal=True)
        assert al.last_dispatch().threads > 1
    np.testing.assert_array_equal(found, one_by_one(x, layers, cu_seqlens, causal=True))


def test_any_layout_is_read(rng: np.random.Generator) -> None:
    drawing = Drawing(rng, "float32", "float32")
    layer = drawn_layer(drawing)
    x = np.asfortranarray(drawing.array(6, WIDTH))
    strided = layer._replace(out_bias=np.repeat(np.asarray(layer.out_bias), 2)[::2])
    cu_seqlens = np.array([0, 4, 6], np.int32)
    np.testing.assert_array_equal(
        encoder_layers(x, [strided], cu_seqlens), encoder_layers(np.ascontiguousarray(x), [layer], cu_seqlens)
    )


def test_refusals(rng: np.random.Generator) -> None:
    drawing = Drawing(rng, "float32", "float32")
    layer, x, offsets = drawn_layer(drawing), drawing.array(5, WIDTH), np.array([0, 5])
    for changes, text in (
        ({"in_proj": layer.out_proj}, rf"layers\[1\]: in_proj must be \({3 * WIDTH}, {WIDTH}\), got shape"),
        ({"linear2": layer.out_proj}, rf"layers\[1\]: linear2 must be \({WIDTH}, {INNER}\), got shape"),
        ({"in_bias": np.ones(3, np.float32)}, r"layers\[1\]: in_bias must be \(72,\), got shape \(3,\)"),
        ({"norm2_weight": np.ones(3, np.float32)}, r"layers\[1\]: norm2"),
        ({"norm1_eps": -1.0}, r"layers\[1\]: norm1.*eps"),
        ({"heads": 5}, r"layers\[1\]: heads must divide E = 24, got 5"),
        ({"heads": 0}, r"layers\[1\]: heads must divide E = 24, got 0"),
        ({"activation": "swish"}, r"layers\[1\]: activation must be None, 'relu'.*got 'swish'"),
    ):
        with pytest.raises(ValueError, match=text):
            encoder_layers(x, [layer, layer._replace(**changes)], offsets)
    for changes, text in (
        ({"heads": 3.0}, r"layers\[1\]: heads"),
        ({"heads": None}, r"layers\[1\]: heads must be an integer, got None"),
        ({"norm1_eps": None}, r"layers\[1\]: norm1_eps must be a number, got None"),
        ({"norm2_eps": "small"}, r"layers\[1\]: norm2_eps"),
    ):
        with pytest.raises(TypeError, match=text):
            encoder_layers(x, [layer, layer._replace(**changes)], offsets)
    with pytest.raises(TypeError, match=r"layers\[0\] must be EncoderLayerParts, got PackedWeight"):
        encoder_layers(x, layer, offsets)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layers must not be empty"):
        encoder_layers(x, [], offsets)
    with pytest.raises(ValueError, match=r"x must be \(T, E\), got shape \(24,\)"):
        encoder_layers(x[0], [layer], offsets)
    with pytest.raises(ValueError, match="cu_seqlens must end with T = 5, got 4"):
        encoder_layers(x, [layer], np.array([0, 4]))
    with pytest.raises(TypeError, match=r"layers\[0\]: linear1 must be a PackedWeight, got ndarray"):
        encoder_layers(x, [layer._replace(linear1=np.ones((INNER, WIDTH)))], offsets)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"layers\[0\]: out_bias.*int"):
        encoder_layers(x, [layer._replace(out_bias=np.ones(WIDTH, int))], offsets)
    with pytest.raises(TypeError, match="float64 arrays and float64 weights"):
        encoder_layers(x.astype(np.float64), [layer], offsets)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8", "float64"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_takes_it_for_few_tokens(
    dtype: str, norm_first: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, norm_first=norm_first, rng=rng)
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(WIDTH)).to(dtype)
    x = rng.standard_normal((2, 7, WIDTH)).astype(encoder.layers[0].norm1.state_dict()["weight"].dtype)
    packed, cu_seqlens = x.reshape(14, WIDTH), np.array([0, 7, 14])

    def results() -> list[Array]:
        return [
            encoder(x),
            encoder(x, causal=True),
            encoder(packed, cu_seqlens=cu_seqlens),
            encoder.layers[0](x[0]),
        ]

    found = results()
    assert al.last_dispatch().operation == "encoder_layers"
    monkeypatch.setattr(one_call, "FEW_TOKENS", 0)
    for one, other in zip(found, results(), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert al.last_dispatch().operation != "encoder_layers"


def test_encoder_leaves_the_rest_to_its_layers(rng: np.random.Generator) -> None:
    class OwnLayer(nn.TransformerEncoderLayer):
        def __call__(self, x: Any, **options: Any) -> Array:
            return np.asarray(x) + 1

    x = rng.standard_normal((3, WIDTH)).astype(np.float32)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, rng=rng), 2)
    mask = np.tril(np.ones((3, 3), bool))
    np.testing.assert_array_equal(encoder(x, mask=mask), encoder(x, causal=True))
    calls: list[AttentionCall] = []
    with observe_attention(calls.append):
        watched = encoder(x)
    assert len(calls) == 2
    np.testing.assert_array_equal(watched, encoder(x))
    encoder.layers[1] = OwnLayer(WIDTH, HEADS, INNER)
    np.testing.assert_array_equal(encoder(x), encoder.layers[0](x) + 1)
    # Wide weights and narrow arrays: each layer widens what the one before has made.
    mixed = nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, rng=rng), 2)
    assert mixed(x.astype(np.float16)).dtype == np.float32
    wide = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, bias=False, rng=rng)
    wide.linear1.to("float64")
    wide.linear2.to("float64")
    assert wide(x).dtype == np.float64


def test_layers_of_other_kinds(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubling(nn.Module):
        def __call__(self, x: Array, **options: Any) -> Array:
            return np.asarray(x) * 2

    x = rng.standard_normal((2, 3, WIDTH)).astype(np.float32)
    np.testing.assert_array_equal(nn.TransformerEncoder(Doubling(), 2)(x), 4 * x)  # type: ignore[arg-type]
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, INNER, rng=rng)
    layer.norm1 = nn.LayerNorm((3, WIDTH), elementwise_affine=False)
    found = layer(x)
    monkeypatch.setattr(one_call, "FEW_TOKENS", 0)
    np.testing.assert_array_equal(found, layer(x))
    monkeypatch.undo()
    layer.norm1 = nn.LayerNorm(5)
    with pytest.raises(ValueError, match="LayerNorm: x has shape"):
        layer(x)
    layer.norm1, layer.self_attn = nn.LayerNorm(WIDTH), Doubling()  # type: ignore[assignment]
    assert layer(x).shape == x.shape
