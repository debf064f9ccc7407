"""Positional encodings, ALiBi's slopes and T5's bias against their formulas and the code of their authors."""

from __future__ import annotations

import math
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnlib as al
from attnlib import nn

FLOATS = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
ENCODINGS = [nn.PositionalEncoding, nn.LearnedPositionalEncoding]


def sinusoid(position: int, feature: int, size: int, base: float) -> float:
    """The formula of Vaswani et al., 2017, section 3.5."""
    angle = position / base ** (feature // 2 * 2 / size)
    return math.cos(angle) if feature % 2 else math.sin(angle)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("size", [1, 2, 7, 16, 33])
@pytest.mark.parametrize("base", [10000.0, 100.0])
def test_sinusoidal(dtype: Any, size: int, base: float, rng: np.random.Generator) -> None:
    layer = nn.PositionalEncoding(size, 300, base=base)
    x = rng.standard_normal((2, 17, size)).astype(dtype)
    before = x.copy()
    eps = float(ml_dtypes.finfo(dtype).eps)
    for offset in (0, 1, 283):
        wanted = x.astype(np.float64) + [
            [sinusoid(offset + i, j, size, base) for j in range(size)] for i in range(17)
        ]
        found = layer(x, offset=offset)
        assert found.dtype == dtype
        # The encoding, at most 1, and the sum are rounded once each; narrow dtypes once more than float32.
        accumulated = eps if dtype == np.float64 else float(np.finfo(np.float32).eps)
        bound = accumulated * (1 + np.abs(wanted)) + eps / 2 * np.abs(wanted) * (1 + eps)
        # Angles of up to 300 are known to within a few units in their last place.
        bound = bound + 300 * 4 * np.finfo(np.float64).eps
        assert (np.abs(found.astype(np.float64) - wanted) <= bound).all()
    np.testing.assert_array_equal(x, before)
    assert layer.state_dict() == {}


def test_learned(rng: np.random.Generator) -> None:
    layer = nn.LearnedPositionalEncoding(5, 30)
    table = rng.standard_normal((30, 5)).astype(np.float32)
    layer.load_state_dict({"weight": table})
    x = rng.standard_normal((2, 3, 7, 5)).astype(np.float32)
    np.testing.assert_array_equal(layer(x), x + table[:7])
    np.testing.assert_array_equal(layer(x, offset=23), x + table[23:])
    assert layer(x.astype(np.float64)).dtype == np.float64
    assert layer(x.astype(ml_dtypes.bfloat16)).dtype == np.float32
    narrow = layer.to("bfloat16")(x.astype(ml_dtypes.bfloat16))
    assert narrow.dtype == ml_dtypes.bfloat16
    wanted = x.astype(ml_dtypes.bfloat16).astype(np.float32) + table[:7].astype(ml_dtypes.bfloat16).astype(
        np.float32
    )
    np.testing.assert_array_equal(narrow, wanted.astype(ml_dtypes.bfloat16))


def test_learned_begins_small(rng: np.random.Generator) -> None:
    layers = [nn.LearnedPositionalEncoding(64, rng=np.random.default_rng(1)) for _ in range(2)]
    table = layers[0].state_dict()["weight"]
    assert table.shape == (512, 64)
    np.testing.assert_array_equal(table, layers[1].state_dict()["weight"])
    assert 0.019 < np.std(table) < 0.021


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_offsets_of_each_sequence_and_step_by_step(
    encoding: Any, dtype: Any, rng: np.random.Generator
) -> None:
    layer = encoding(6, 40)
    x = rng.standard_normal((3, 12, 6)).astype(dtype)
    whole = layer(x)
    for step in range(12):
        np.testing.assert_array_equal(layer(x[:, step : step + 1], offset=step), whole[:, step : step + 1])
    offsets = np.array([0, 28, 5])
    found = layer(x, offset=offsets)
    for row, offset in enumerate(offsets):
        np.testing.assert_array_equal(found[row], layer(x[row], offset=offset))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x), whole)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_of_odd_arrays(encoding: Any, rng: np.random.Generator) -> None:
    layer = encoding(6, 40)
    x = rng.standard_normal((3, 6, 24)).astype(np.float32)
    strided = x[:, :, ::2].swapaxes(1, 2)
    np.testing.assert_array_equal(layer(strided), layer(strided.copy()))
    swapped = strided.astype(strided.dtype.newbyteorder())
    np.testing.assert_array_equal(layer(swapped), layer(strided))
    assert layer(swapped).dtype.isnative
    for shape in ((0, 6), (3, 0, 6), (0, 4, 6)):
        assert layer(np.zeros(shape, np.float32)).shape == shape
    assert layer(np.zeros((0, 4, 6)), offset=np.zeros(0, int)).shape == (0, 4, 6)
    assert layer(np.zeros((0, 6)), offset=40).shape == (0, 6)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_refuse(encoding: Any) -> None:
    layer, name = encoding(6, 40), encoding.__name__
    x = np.zeros((2, 3, 6), np.float32)
    for bad in (np.zeros((2, 3, 6), int), np.zeros((3, 6), bool), np.zeros((3, 6), complex)):
        with pytest.raises(TypeError, match=f"^{name}: x has dtype {bad.dtype}"):
            layer(bad)
    for shape in ((6,), (2, 3, 5), ()):
        with pytest.raises(ValueError, match=rf"^{name}: x has shape .*, expected \(\.\.\., S, 6\)"):
            layer(np.zeros(shape, np.float32))
    with pytest.raises(TypeError, match=f"^{name}: offset must be integer, got float64"):
        layer(x, offset=1.0)
    with pytest.raises(ValueError, match=f"^{name}: offset must not be negative, got -1"):
        layer(x, offset=[0, -1])
    with pytest.raises(ValueError, match=rf"^{name}: offset has shape \(3,\), expected \(\) or \(2,\)"):
        layer(x, offset=[0, 1, 2])
    for offset in (38, [0, 38], 2**40):
        with pytest.raises(ValueError, match="outside the max_len of 40 positions"):
            layer(x, offset=offset)
    with pytest.raises(ValueError, match=f"^{name}: max_len must not be negative, got -1"):
        encoding(6, -1)
    with pytest.raises(TypeError, match=f"^{name}: d_model must be an integer, got float"):
        encoding(6.0)


@pytest.mark.parametrize("base", [0.0, -1.0, math.inf, math.nan])
def test_base(base: float) -> None:
    with pytest.raises(ValueError, match="base must be positive and finite"):
        nn.PositionalEncoding(6, base=base)


def test_alibi_slopes_of_the_paper() -> None:
    """Section 3: 1/2, 1/4, ..., 1/256 for 8 heads; for 16 the same with the geometric means between."""
    np.testing.assert_array_equal(nn.alibi_slopes(8), 1 / 2.0 ** np.arange(1, 9))
    np.testing.assert_allclose(nn.alibi_slopes(16), 1 / 2 ** np.arange(0.5, 8.5, 0.5), rtol=1e-15)
    np.testing.assert_array_equal(nn.alibi_slopes(16)[1::2], nn.alibi_slopes(8))


def slopes_by_the_authors_rule(heads: int) -> list[float]:
    if heads & (heads - 1) == 0:
        ratio = 2 ** -(8 / heads)
        return [ratio ** (i + 1) for i in range(heads)]
    below = max(2**i for i in range(20) if 2**i < heads)
    return slopes_by_the_authors_rule(below) + slopes_by_the_authors_rule(2 * below)[::2][: heads - below]


@pytest.mark.parametrize("heads", [1, 2, 3, 4, 5, 6, 7, 9, 12, 20, 31, 32, 33, 40, 71, 112, 128])
def test_alibi_slopes(heads: int) -> None:
    found = nn.alibi_slopes(heads)
    assert found.shape == (heads,)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, slopes_by_the_authors_rule(heads), rtol=1e-13)


def test_alibi_slopes_go_into_attention(rng: np.random.Generator, assert_close: Any) -> None:
    heads = [rng.standard_normal((3, 9, 4)) for _ in range(3)]
    slopes = nn.alibi_slopes(3)
    distance = np.abs(np.arange(9)[:, None] - np.arange(9))
    wanted = al.attention(*heads, causal=True, bias=-slopes[:, None, None] * distance)
    assert_close(al.attention(*heads, causal=True, alibi_slopes=slopes), wanted, 1e-13)
    found = al.attention(*(head.astype(np.float32) for head in heads), causal=True, alibi_slopes=slopes)
    assert found.dtype == np.float32
    assert_close(found, wanted)


def test_alibi_slopes_refuse() -> None:
    assert nn.alibi_slopes(0).shape == (0,)
    with pytest.raises(ValueError, match=r"^alibi_slopes: num_heads must not be negative, got -1"):
        nn.alibi_slopes(-1)
    with pytest.raises(TypeError, match=r"^alibi_slopes: num_heads must be an integer, got float"):
        nn.alibi_slopes(8.0)  # type: ignore[arg-type]


@pytest.mark.real_model  # beside the other tests that want a peer's library; it fetches nothing
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("buckets", [4, 8, 10, 16, 20, 32, 64])
@pytest.mark.parametrize("farthest", [33, 64, 100, 128, 256])
def test_buckets_are_those_of_transformers(bidirectional: bool, buckets: int, farthest: int) -> None:
    torch = pytest.importorskip("torch")
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    distances = np.arange(-600, 600)
    wanted = t5.T5Attention._relative_position_bucket(
        torch.from_numpy(distances), bidirectional, buckets, farthest
    )
    found = nn.RelativePositionBias(buckets, 2, farthest, bidirectional).buckets(distances)
    np.testing.assert_array_equal(found, wanted.numpy())


@pytest.mark.real_model
@pytest.mark.parametrize("decoder", [False, True])
def test_bias_is_that_of_transformers(decoder: bool, twins: Any) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    t5 = pytest.importorskip("transformers.models.t5.modeling_t5")
    config = transformers.T5Config(d_model=8, num_heads=4, d_kv=2, is_decoder=decoder)
    oracle = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    layer = nn.RelativePositionBias(32, 4, 128, not decoder)
    twins(layer, oracle.relative_attention_bias)
    oracle.float()
    for queries, keys, past in ((1, 1, 0), (7, 7, 0), (200, 200, 0), (1, 150, 149), (3, 40, 37), (9, 4, 0)):
        with torch.no_grad():
            wanted = oracle.compute_bias(queries, keys, past_seen_tokens=past)[0].numpy()
        np.testing.assert_array_equal(layer(queries, keys, query_offset=past), wanted)
        if past == keys - queries:
            np.testing.assert_array_equal(layer(queries, keys), wanted)
        if queries == keys:
            np.testing.assert_array_equal(layer(queries), wanted)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_by_the_formula(bidirectional: bool) -> None:
    """Raffel et al., 2020: 32 buckets up to a distance of 128."""
    layer = nn.RelativePositionBias(32, 3, bidirectional=bidirectional)
    table, bias = layer.weight.value, layer(300)
    each_way = 16 if bidirectional else 32
    single = each_way // 2
    for i, j in ((0, 0), (0, 299), (299, 0), (5, 6), (20, 97), (97, 20), (17, 1), (200, 168), (168, 200)):
        distance = abs(j - i) if bidirectional else max(i - j, 0)
        bucket = distance
        if distance >= single:
            growth = math.log(distance / single) / math.log(128 / single)
            bucket = min(each_way - 1, single + int(growth * (each_way - single) + 1e-9))
        row = bucket + (16 if bidirectional and j > i else 0)
        np.testing.assert_array_equal(bias[:, i, j], table[row])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_bias_goes_into_attention(dtype: Any, rng: np.random.Generator) -> None:
    """As a view, with the bits of a copy; a step of decoding sees the last row."""
    layer = nn.RelativePositionBias(32, 4, rng=rng).to(dtype)
    bias = layer(40)
    assert not bias.flags.writeable
    query, key, value = (rng.standard_normal((2, 4, 40, 8)).astype(dtype) for _ in range(3))
    found = al.attention(query, key, value, bias=bias)
    np.testing.assert_array_equal(found, al.attention(query, key, value, bias=bias.copy()))
    np.testing.assert_array_equal(layer(1, 40), bias[:, -1:])
    assert found.dtype == bias.dtype == dtype


def test_bias_parameters(rng: np.random.Generator) -> None:
    layer = nn.RelativePositionBias(32, 4, rng=rng)
    assert {name: array.shape for name, array in layer.state_dict().items()} == {"weight": (32, 4)}
    before = layer(5).copy()
    np.testing.assert_array_equal(layer.to("int8")(5), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(5), before)
    assert layer(0).shape == (4, 0, 0)
    assert layer(0, 3).shape == (4, 0, 3)
    assert layer(3, 0).shape == (4, 3, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((31, 4), ValueError, "num_buckets must be even and at least 4, got 31"),
        ((2, 4), ValueError, "num_buckets must be even and at least 4, got 2"),
        ((1, 4, 128, False), ValueError, "num_buckets must be at least 2, got 1"),
        ((32, 4, 8), ValueError, "max_distance must be above 8, .*, got 8"),
        ((32, 4, 16, False), ValueError, "max_distance must be above 16, .*, got 16"),
        ((32, -1), ValueError, "num_heads must not be negative"),
        ((32.0, 4), TypeError, "num_buckets must be an integer, got float"),
    ],
)
def test_bias_refuses_sizes(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="^RelativePositionBias: " + message):
        nn.RelativePositionBias(*arguments)


def test_bias_refuses_lengths() -> None:
    layer = nn.RelativePositionBias(32, 4)
    with pytest.raises(ValueError, match=r"^RelativePositionBias: query_length must not be negative"):
        layer(-1)
    with pytest.raises(TypeError, match=r"^RelativePositionBias: key_length must be an integer, got float"):
        layer(3, 4.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^RelativePositionBias: query_offset must be an integer, got float"):
        layer(3, 4, query_offset=1.0)  # type: ignore[arg-type]


def test_float64_of_the_other_byte_order(rng: np.random.Generator) -> None:
    """It is as precise as that of the machine's."""
    x = rng.standard_normal((2, 5, 8))
    for make in ENCODINGS:
        layer = make(8, 9)
        np.testing.assert_array_equal(layer(x.astype(x.dtype.newbyteorder())), layer(x))
