"""A decoder's step in one call: the bits of rotary_embedding, two copies and attention, nothing more."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib as al
from attnlib.functional import cached_attention, observe_attention
from attnlib.functional.observer import AttentionCall
from attnlib.nn import KVCache

Array = NDArray[Any]

BATCH, HEADS, GROUPS, SIZE, VALUE_SIZE, CAPACITY = 3, 6, 2, 10, 7, 90


def in_four_calls(
    query: Array, key: Array, value: Array, caches: tuple[Array, Array], lengths: Array, **options: Any
) -> Array:
    """What one call must equal; `caches` are changed."""
    count = key.shape[2]
    if "cos" in options:
        positions = options.get("positions", lengths[:, None] + np.arange(count))
        query, key = (
            al.rotary_embedding(x, options["cos"], options["sin"], positions=positions) for x in (query, key)
        )
    for cache, tokens in zip(caches, (key, value), strict=True):
        for row, length in enumerate(lengths):
            cache[row, :, length : length + count] = tokens[row]
    window = options.get("window")
    return al.attention(
        query,
        *(cache[:, :, : lengths.max() + count] for cache in caches),
        causal=options.get("causal", True),
        window=None if window is None else (window - 1, None),
        scale=options.get("scale"),
        key_lengths=lengths + count,
    ).swapaxes(1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 17])
@pytest.mark.parametrize("rotary", ["none", "following", "given", "one for all"])
@pytest.mark.parametrize("options", [{}, {"window": 5}, {"scale": 0.3, "causal": False}])
@pytest.mark.parametrize("threads", [1, 2])
def test_bits(
    dtype: Any, count: int, rotary: str, options: dict[str, Any], threads: int, rng: np.random.Generator
) -> None:
    def draw(*shape: int) -> Array:
        return rng.standard_normal(shape).astype(dtype)

    # As the fused projection of a model gives them: views of one array, heads beside each other.
    mixed = draw(BATCH, count, HEADS + GROUPS, SIZE).swapaxes(1, 2)
    query, key = mixed[:, :HEADS], mixed[:, HEADS:]
    value = draw(BATCH, GROUPS, count, VALUE_SIZE)
    caches = draw(BATCH, GROUPS, CAPACITY, SIZE), draw(BATCH, GROUPS, CAPACITY, VALUE_SIZE)
    lengths = np.array([0, 70, 13])
    if rotary != "none":
        options = {**options, "cos": draw(200, 3), "sin": draw(200, 3)}
    if rotary == "given":
        options["positions"] = rng.integers(0, 200, (BATCH, count))
    if rotary == "one for all":
        options["positions"] = rng.integers(0, 200, count)
    expected_caches = caches[0].copy(), caches[1].copy()
    expected = in_four_calls(query, key, value, expected_caches, lengths, **options)
    with al.num_threads(threads):
        found = cached_attention(query, key, value, *caches, lengths, **options)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(caches[0], expected_caches[0])
    np.testing.assert_array_equal(caches[1], expected_caches[1])
    assert lengths.tolist() == [0, 70, 13]


def test_what_the_cache_does_not_hold_never_reaches_the_result(rng: np.random.Generator) -> None:
    query = rng.standard_normal((1, 2, 1, 8), np.float32)
    clean = np.zeros((2, 1, 1, 100, 8), np.float32)
    dirty = np.full_like(clean, np.nan)
    dirty[:, :, :, :40] = clean[:, :, :, :40] = rng.standard_normal((2, 1, 1, 40, 8), np.float32)
    results = [
        cached_attention(query, query[:, :1], query[:, 1:], *caches, [40]) for caches in (clean, dirty)
    ]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("batch", [0, 2])
def test_empty(count: int, batch: int) -> None:
    tokens = np.ones((batch, 2, count, 4), np.float32)
    caches = np.zeros((2, batch, 2, 5, 4), np.float32)
    found = cached_attention(tokens, tokens, tokens, *caches, np.full(batch, 2))
    assert found.shape == (batch, count, 2, 4)


def arguments(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "query": np.ones((2, 4, 3, 8), np.float32),
        "key": np.ones((2, 2, 3, 8), np.float32),
        "value": np.ones((2, 2, 3, 5), np.float32),
        "key_cache": np.zeros((2, 2, 10, 8), np.float32),
        "value_cache": np.zeros((2, 2, 10, 5), np.float32),
        "lengths": np.array([0, 7]),
    }
    return made | changes


table = np.ones((9, 4), np.float32)
table_3d = np.ones((2, 3, 4), np.float32)
joined = np.zeros((2, 2, 13, 8), np.float32)
same = np.zeros((2, 2, 10, 8), np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": np.ones((4, 3, 8), np.float32)}, r"four axes, got query \(4, 3, 8\)"),
        ({"query": np.ones((2, 3, 3, 8), np.float32)}, "H a multiple of G, got query"),
        ({"key": np.ones((2, 2, 4, 8), np.float32)}, "H a multiple of G, got query"),
        ({"value": np.ones((2, 1, 3, 5), np.float32)}, "H a multiple of G, got query"),
        (
            {"key_cache": np.zeros((2, 2, 10, 7), np.float32)},
            r"capacity, Dv\), got .*key_cache \(2, 2, 10, 7\)",
        ),
        ({"value_cache": np.zeros((2, 2, 9, 5), np.float32)}, r"value_cache \(2, 2, 9, 5\)"),
        ({"key_cache": np.zeros((2, 2, 10, 8))}, "key_cache must be float32 as the inputs are, got float64"),
        (
            {"key_cache": np.zeros((2, 2, 10, 8), np.float32).tolist()},
            "key_cache must be a numpy.ndarray, got list",
        ),
        ({"key_cache": np.broadcast_to(np.float32(0), (2, 2, 10, 8))}, "key_cache must be writable"),
        (
            {"value_cache": np.zeros((2, 2, 5, 10), np.float32).swapaxes(2, 3)},
            "contiguous along its last axis",
        ),
        (
            {"key_cache": joined[:, :, 3:], "key": joined[:, :, 2:5]},
            "key_cache must share no memory with key",
        ),
        (
            {"lengths": [0, 8]},
            "lengths must leave room for the new tokens, got 8 and 3 more in a capacity of 10",
        ),
        ({"lengths": [-1, 0]}, "lengths must leave room for the new tokens, got -1"),
        ({"lengths": [0]}, r"lengths must be \(B,\), got .*lengths \(1\,\)"),
        ({"lengths": [0.0, 1.0]}, "lengths must be integers, got float64"),
        ({"lengths": None}, "lengths must be integers"),
        ({"cos": table}, "cos and sin are given together"),
        ({"cos": table, "sin": table}, "positions must lie in 0..8, the rows of cos and sin, got 9"),
        (
            {"cos": table, "sin": table, "positions": [[0, 1]]},
            r"positions must have shape \(S,\) or \(B, S\)",
        ),
        ({"key_cache": same, "value_cache": same, "value": same[:, :, :3] + 0}, "must share no memory$"),
        (
            {"key_cache": joined[:, :, 3:], "value_cache": joined[:, :, :10], "value": same[:, :, :3] + 0},
            "key_cache and value_cache must share no memory",
        ),
        (
            {"key_cache": np.lib.stride_tricks.as_strided(same, (2, 2, 10, 8), (0, 320, 32, 4))},
            "key_cache must not be broadcast",
        ),
        (
            {"key_cache": np.lib.stride_tricks.as_strided(same, (2, 2, 10, 8), (640, 320, 8, 4))},
            "must not be broadcast or overlap itself",
        ),
        (
            {"cos": table_3d, "sin": table_3d, "positions": [0, 1, 2]},
            "positions must be None when cos and sin",
        ),
        ({"cos": table_3d[:, :2], "sin": table_3d[:, :2]}, r"\(B, S, R/2\), does not fit"),
        ({"window": 0}, "window must be None or a number of tokens of at least 1, got 0"),
        ({"window": 2.5}, "window must be integers, got float64"),
        ({"scale": float("nan")}, "scale must be finite"),
    ],
)
def test_bad_input_leaves_the_cache_alone(changes: dict[str, Any], message: str) -> None:
    made = arguments(**changes)
    held = [np.array(made[name], copy=True) for name in ("key_cache", "value_cache")]
    with pytest.raises((TypeError, ValueError), match=message):
        cached_attention(**made)
    for name, before in zip(("key_cache", "value_cache"), held, strict=True):
        for row, length in enumerate([0, 7]):
            np.testing.assert_array_equal(np.asarray(made[name])[row, :, :length], before[row, :, :length])


def test_an_observer_sees_what_is_attended_to(rng: np.random.Generator) -> None:
    query, key = rng.standard_normal((2, 1, 2, 3, 8), np.float32)
    caches = rng.standard_normal((2, 1, 2, 9, 8), np.float32)
    cos, sin = rng.standard_normal((2, 9, 4), np.float32)
    calls: list[AttentionCall] = []
    with observe_attention(calls.append):
        out = cached_attention(query, key, key, *caches, [5], cos=cos, sin=sin, window=4, scale=0.5)
    (call,) = calls
    seen = al.attention(call.query, call.key, caches[1][:, :, :8], **call.options)
    np.testing.assert_array_equal(seen.swapaxes(1, 2), out)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("window", [None, 4])
def test_the_method_of_a_cache(dtype: str, window: int | None, rng: np.random.Generator) -> None:
    """`KVCache.attend` is `append` and `attention`, in every kind of storage, also beside a fork."""
    one, other = (KVCache(2, 2, GROUPS, SIZE, capacity=3, dtype=dtype) for _ in range(2))
    cos, sin = rng.standard_normal((2, 40, 5), np.float32)
    for step, count in enumerate([5, 1, 1, 3]):
        fork = one.fork(1)[0]
        for layer in range(2):
            query = rng.standard_normal((2, HEADS, count, SIZE), np.float32)
            key, value = rng.standard_normal((2, 2, GROUPS, count, SIZE), np.float32)
            positions = one.positions[:, None] + np.arange(count)
            turned = [al.rotary_embedding(x, cos, sin, positions=positions) for x in (query, key)]
            sides = None if window is None else (window - 1, None)
            keys, values, lengths = other.append(layer, turned[1], value)
            expected = al.attention(turned[0], keys, values, causal=True, window=sides, key_lengths=lengths)
            found = one.attend(layer, query, key, value, cos=cos, sin=sin, window=window)
            np.testing.assert_array_equal(found, expected.swapaxes(1, 2))
        np.testing.assert_array_equal(one.lengths, other.lengths)
        assert fork.lengths.tolist() == [[0, 5, 6, 7][step]] * 2
    with pytest.raises(IndexError, match="layer 2 is not in a cache of 2 layers"):
        one.attend(2, query, key, value)
    with pytest.raises((TypeError, ValueError), match="key"):
        one.attend(0, query, key[:1], value)


def test_a_refused_step_leaves_a_windowed_cache_as_it_was() -> None:
    """Also when room for it has been made by evicting."""
    cache = KVCache(1, 1, 1, 4, window=3, capacity=5)
    token = np.ones((1, 1, 1, 4), np.float32)
    for value in range(5):
        cache.attend(0, token, value * token, value * token)
    with pytest.raises(TypeError):
        cache.attend(0, token.astype(np.float64), token, token)
    assert cache.positions.tolist() == [5]
    assert cache.read(0)[0][0, 0, :, 0].tolist() == [0, 1, 2, 3, 4]
    cache.attend(0, token, 5 * token, 5 * token)
    assert cache.read(0)[0][0, 0, :, 0].tolist() == [3, 4, 5]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_windows_and_tables_are_checked_first(dtype: str) -> None:
    cache = KVCache(1, 1, 1, 4, window=2, capacity=2, dtype=dtype)
    token = np.ones((1, 1, 1, 4), np.float32)
    for options, message in (
        ({"window": 3}, "window must be from 1 to 2, got 3"),
        ({"window": 0}, "window must be from 1 to 2, got 0"),
        ({"cos": np.ones((9, 2), np.float32)}, "cos and sin are given together"),
    ):
        with pytest.raises(ValueError, match=message):
            cache.attend(0, token, token, token, **options)
    assert cache.positions.tolist() == [0]
    # The window of the cache holds without being named: of values 0 to 5, the last two are seen.
    zero = np.zeros_like(token)
    for value in range(6):
        out = cache.attend(0, token, zero, value * token)
    np.testing.assert_allclose(out, 4.5, rtol=1e-2)


def test_each_layer_counts_its_own_positions(rng: np.random.Generator) -> None:
    cache, other = KVCache(2, 1, 1, 4), KVCache(1, 1, 1, 4)
    cos, sin = rng.standard_normal((2, 9, 2), np.float32)
    for _ in range(3):
        token = rng.standard_normal((1, 1, 1, 4), np.float32)
        found = cache.attend(0, token, token, token, cos=cos, sin=sin)
        np.testing.assert_array_equal(found, other.attend(0, token, token, token, cos=cos, sin=sin))
    np.testing.assert_array_equal(cache.read(0)[0], other.read(0)[0])


def test_a_view_of_nothing_shares_no_memory(rng: np.random.Generator) -> None:
    """Wherever it points to: a part of an empty array may point behind its memory, into another array."""
    caches = [rng.standard_normal((1, 2, 8, 4)).astype(np.float32) for _ in range(2)]
    before = [cache.copy() for cache in caches]
    nothing = np.ndarray((1, 2, 0, 4), np.float32, buffer=caches[0], offset=32)
    assert cached_attention(nothing, nothing, nothing, *caches, [3]).shape == (1, 0, 2, 4)
    assert all(np.array_equal(*pair) for pair in zip(caches, before, strict=True))
