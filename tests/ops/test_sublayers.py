"""The two halves of a Llama layer, each in one call: the bits of the operations they are made of."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib as al
from attnlib.functional import (
    cached_attention,
    cached_self_attention,
    gated_feed_forward,
    linear_in_parts,
    observe_attention,
)
from attnlib.functional.observer import AttentionCall

Array = NDArray[Any]

WIDTH, INNER, HEADS, GROUPS, SIZE, CAPACITY = 24, 37, 6, 2, 10, 90
MIXED = (HEADS + 2 * GROUPS) * SIZE
KINDS = [
    ("float32", "float32"),
    ("float32", "bfloat16"),
    ("float32", "int8"),
    ("float32", "int4"),
    ("float64", "float64"),
    ("float16", "float16"),
    ("bfloat16", "bfloat16"),
    ("bfloat16", "int8"),
]


class Drawing:
    """Arrays and packed weights of two dtypes."""

    def __init__(self, rng: np.random.Generator, dtype: str, weights: str) -> None:
        self._rng = rng
        self.dtype = np.dtype(getattr(ml_dtypes, dtype, dtype))
        self._weights = weights

    def array(self, *shape: int) -> Array:
        return self._rng.standard_normal(shape).astype(self.dtype)

    def weight(self, *shape: int) -> al.PackedWeight:
        rows = self._rng.standard_normal(shape) / np.sqrt(shape[-1])
        own = "float32" if self._weights in ("int8", "int4") else self._weights
        return al.pack_weight(rows.astype(getattr(ml_dtypes, own, own)), dtype=self._weights)


@pytest.mark.parametrize(("dtype", "weights"), KINDS)
@pytest.mark.parametrize("shape", [(WIDTH,), (1, WIDTH), (2, 17, WIDTH), (0, WIDTH)])
@pytest.mark.parametrize("threads", [1, 2])
def test_feed_forward_bits(
    dtype: str, weights: str, shape: tuple[int, ...], threads: int, rng: np.random.Generator
) -> None:
    drawing = Drawing(rng, dtype, weights)
    x, norm = drawing.array(*shape), drawing.array(WIDTH)
    gate_up, down = drawing.weight(2 * INNER, WIDTH), drawing.weight(WIDTH, INNER)
    with al.num_threads(threads):
        found = gated_feed_forward(x, norm, gate_up, down, eps=1e-5)
    both = al.linear(al.rms_norm(x, norm, eps=1e-5), gate_up)
    expected = al.linear(al.swiglu(both[..., :INNER], both[..., INNER:]), down, residual=x)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_feed_forward_of_a_token_uses_threads(rng: np.random.Generator) -> None:
    drawing = Drawing(rng, "float32", "int4")
    x, norm = drawing.array(1, 1, 576), np.ones(576, np.float32)
    gate_up, down = drawing.weight(3072, 576), drawing.weight(576, 1536)
    with al.num_threads(1):
        alone = gated_feed_forward(x, norm, gate_up, down)
    with al.num_threads(2):
        shared = gated_feed_forward(x, norm, gate_up, down)
        assert al.last_dispatch().threads == 2
    np.testing.assert_array_equal(alone, shared)


def test_feed_forward_reads_any_layout_and_fills_out(rng: np.random.Generator) -> None:
    drawing = Drawing(rng, "float32", "float32")
    norm, gate_up, down = drawing.array(WIDTH), drawing.weight(8, WIDTH), drawing.weight(WIDTH, 4)
    x = drawing.array(WIDTH, 5, 2).T
    wide = np.full((2, 5, WIDTH + 3), 7, np.float32)
    out = gated_feed_forward(x, norm, gate_up, down, out=wide[..., 1:-2])
    assert out.base is wide
    np.testing.assert_array_equal(out, gated_feed_forward(x.copy(), norm, gate_up, down))
    assert (wide[..., 0] == 7).all()
    assert (wide[..., -2:] == 7).all()
    same = x.copy()
    np.testing.assert_array_equal(gated_feed_forward(same, norm, gate_up, down, out=same), out)


def test_feed_forward_refusals() -> None:
    x, norm = np.ones((2, 6), np.float32), np.ones(6, np.float32)
    up, down = al.pack_weight(np.ones((8, 6), np.float32)), al.pack_weight(np.ones((6, 4), np.float32))
    with pytest.raises(ValueError, match=r"gated_feed_forward: gate_up must be \(8, 6\), got shape \(8, 5\)"):
        gated_feed_forward(x, norm, al.pack_weight(np.ones((8, 5), np.float32)), down)
    with pytest.raises(ValueError, match=r"gated_feed_forward: down must be \(6, 8\), got shape \(8, 8\)"):
        gated_feed_forward(x, norm, up, al.pack_weight(np.ones((8, 8), np.float32)))
    with pytest.raises(ValueError, match=r"norm_weight must be \(6,\), got shape \(5,\)"):
        gated_feed_forward(x, np.ones(5, np.float32), up, down)
    with pytest.raises(ValueError, match=r"x must have at least one axis"):
        gated_feed_forward(np.float32(1), norm, up, down)
    with pytest.raises(ValueError, match="eps"):
        gated_feed_forward(x, norm, up, down, eps=-1.0)
    with pytest.raises(TypeError, match="float64 arrays and float64 weights go with each other alone"):
        gated_feed_forward(x.astype(np.float64), norm, up, down)
    with pytest.raises(TypeError):
        gated_feed_forward(x, norm, np.ones((8, 6)), down)  # type: ignore[arg-type]


def self_attention(drawing: Drawing, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "norm_weight": drawing.array(WIDTH),
        "in_proj": drawing.weight(MIXED, WIDTH),
        "out_proj": drawing.weight(WIDTH, HEADS * SIZE),
        "heads": HEADS,
        "groups": GROUPS,
        "eps": 1e-5,
    }
    return made | changes


def in_four_calls(x: Array, caches: tuple[Array, Array], lengths: Array, given: dict[str, Any]) -> Array:
    """What one call must equal; `caches` are changed."""
    options = dict(given)
    eps, heads, groups = options.pop("eps"), options.pop("heads"), options.pop("groups")
    norm = al.rms_norm(x, options.pop("norm_weight"), eps=eps)
    mixed = al.linear(norm, options.pop("in_proj"), options.pop("in_bias", None))
    size = caches[0].shape[-1]
    mixed = mixed.reshape(*x.shape[:2], heads + 2 * groups, size).swapaxes(1, 2)
    query, key, value = np.split(mixed, [heads, heads + groups], axis=1)
    if (weight := options.pop("query_norm", None)) is not None:
        query = al.rms_norm(query, weight, eps=eps)
    if (weight := options.pop("key_norm", None)) is not None:
        key = al.rms_norm(key, weight, eps=eps)
    out_proj, out_bias = options.pop("out_proj"), options.pop("out_bias", None)
    heads_out = cached_attention(query, key, value, *caches, lengths, **options)
    return al.linear(heads_out.reshape(*x.shape[:2], heads * size), out_proj, out_bias, residual=x)


@pytest.mark.parametrize(("dtype", "weights"), KINDS)
@pytest.mark.parametrize("count", [1, 2, 17])
@pytest.mark.parametrize("options", ["", "biases", "norms", "rotary", "window"])
@pytest.mark.parametrize("threads", [1, 2])
def test_self_attention_bits(
    dtype: str, weights: str, count: int, options: str, threads: int, rng: np.random.Generator
) -> None:
    drawing = Drawing(rng, dtype, weights)
    given = self_attention(drawing)
    lengths = np.array([0, 70, 13])
    if options == "biases":
        given |= {"in_bias": drawing.array(MIXED), "out_bias": drawing.array(WIDTH)}
    if options == "norms":
        given |= {"query_norm": drawing.array(SIZE), "key_norm": drawing.array(SIZE)}
    if options == "rotary":
        given |= {"cos": drawing.array(99, 4), "sin": drawing.array(99, 4)}
        given["positions"] = rng.integers(0, 99, (3, count))
    if options == "window":
        given |= {"window": 5, "scale": 0.3}
    x = drawing.array(3, count, WIDTH)
    caches = drawing.array(3, GROUPS, CAPACITY, SIZE), drawing.array(3, GROUPS, CAPACITY, SIZE)
    copies = caches[0].copy(), caches[1].copy()
    expected = in_four_calls(x, copies, lengths, given)
    with al.num_threads(threads):
        found = cached_self_attention(x, *caches, lengths, **given)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    for cache, copy in zip(caches, copies, strict=True):
        np.testing.assert_array_equal(cache, copy)

    # With somebody looking, the queries are at hand, and nothing else differs.
    calls: list[AttentionCall] = []
    with observe_attention(calls.append):
        seen = cached_self_attention(x, *copies, lengths, **given)
    np.testing.assert_array_equal(seen, expected)
    assert [call.query.shape for call in calls] == [(3, HEADS, count, SIZE)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 5}, "heads must be a multiple of groups, got 5 and 2"),
        ({"groups": 0}, "heads must be a multiple of groups, got 6 and 0"),
        ({"heads": 8}, r"in_proj must have rows for 12 heads, got shape \(100, 24\)"),
        ({"norm_weight": np.ones(5, np.float32)}, r"norm_weight must be \(24,\), got"),
        ({"in_bias": np.ones(5, np.float32)}, r"in_bias must be \(100,\), got shape \(5,\)"),
        ({"out_bias": np.ones(5, np.float32)}, r"out_bias must be \(24,\), got shape \(5,\)"),
        ({"query_norm": np.ones(5, np.float32)}, r"query_norm must be \(10,\), got shape \(5,\)"),
        ({"key_norm": np.ones(5, np.float32)}, r"key_norm must be \(10,\), got shape \(5,\)"),
        ({"out_proj": al.pack_weight(np.ones((24, 5)))}, "float64 arrays and float64 weights"),
        ({"out_proj": al.pack_weight(np.ones((24, 5), np.float32))}, r"out_proj must be \(24, 60\)"),
        ({"x": np.ones((2, 24), np.float32)}, r"x must be \(B, S, d\), got shape \(2, 24\)"),
        ({"x": np.ones((1, 91, 24), np.float32)}, "lengths must leave room"),
        ({"lengths": [1, 2]}, r"lengths must be \(B,\)"),
        ({"cos": np.ones((9, 3), np.float32)}, "cos and sin are given together"),
        ({"window": 0}, "window must be None or a number of tokens"),
    ],
)
def test_self_attention_refusals(changes: dict[str, Any], message: str, rng: np.random.Generator) -> None:
    caches = np.zeros((2, 1, GROUPS, CAPACITY, SIZE), np.float32)
    given = self_attention(Drawing(rng, "float32", "float32"))
    given |= {"x": np.ones((1, 2, WIDTH), np.float32), "lengths": [3]} | changes
    with pytest.raises((ValueError, TypeError), match=message):
        cached_self_attention(key_cache=caches[0], value_cache=caches[1], **given)
    assert not caches.any()


@pytest.mark.parametrize(("dtype", "weights"), KINDS)
@pytest.mark.parametrize("sizes", [(5,), (64, 1, 70), (3,) * 11, (0, 9)])
@pytest.mark.parametrize("threads", [1, 2])
def test_parts_are_one_weight(
    dtype: str, weights: str, sizes: tuple[int, ...], threads: int, rng: np.random.Generator
) -> None:
    drawing = Drawing(rng, dtype, weights)
    x, parts = drawing.array(2, 3, WIDTH), [drawing.weight(size, WIDTH) for size in sizes]
    with al.num_threads(threads):
        found = linear_in_parts(x, parts)
    np.testing.assert_array_equal(found, np.concatenate([al.linear(x, part) for part in parts], axis=-1))
    wide = np.zeros((2, 3, sum(sizes) + 2), found.dtype)
    linear_in_parts(x, parts, out=wide[..., 1:-1])
    np.testing.assert_array_equal(wide[..., 1:-1], found)


def test_parts_share_threads(rng: np.random.Generator) -> None:
    parts = [Drawing(rng, "float32", "int4").weight(1024, 576) for _ in range(9)]
    with al.num_threads(2):
        linear_in_parts(np.ones((1, 576), np.float32), parts)
        assert al.last_dispatch().threads == 2


def test_parts_refusals() -> None:
    x, part = np.ones((2, 6), np.float32), al.pack_weight(np.ones((8, 6), np.float32))
    with pytest.raises(ValueError, match="linear_in_parts: weights must be at least one, got none"):
        linear_in_parts(x, [])
    with pytest.raises(ValueError, match=r"^linear_in_parts: the last axis of x must be in_features = 5"):
        linear_in_parts(x, [part, al.pack_weight(np.ones((8, 5), np.float32))])
    with pytest.raises(TypeError, match="float64 arrays and float64 weights"):
        linear_in_parts(x, [part, al.pack_weight(np.ones((8, 6)))])
    with pytest.raises(TypeError):
        linear_in_parts(x, [part, None])  # type: ignore[list-item]
