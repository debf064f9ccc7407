"""NaN and infinities in keys and values that no query may attend to never reach the result, not by a bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import DTYPES, FULL
from attention_check import make_qkv

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
DIRT = (np.nan, np.inf, -np.inf)
LENGTHS = (
    ((1, 70), (4, 150), (33, 70), (70, 70))
    if not FULL
    else ((1, 70), (1, 3000), (4, 150), (33, 70), (200, 300))
)


def check(arrays: tuple[np.ndarray, ...], unread: np.ndarray, dtype: np.dtype[Any], **options: Any) -> None:
    """Fill the unread keys (a bool array that broadcasts to (B, 1, Sk)) with dirt: the same bits come out."""
    query, key, value = arrays
    unread = np.broadcast_to(unread, key.shape[:-1])[..., None]
    expected = al.attention(query, key, value, return_weights=True, return_lse=True, **options)
    assert np.all(np.isfinite(expected[0].astype(np.float64)))
    plain = al.attention(query, key, value, **options)
    for dirt in DIRT:
        filth = np.asarray(dirt, dtype)
        dirty_key, dirty_value = np.where(unread, filth, key), np.where(unread, filth, value)
        for k, v in ((dirty_key, value), (key, dirty_value), (dirty_key, dirty_value)):
            assert al.attention(query, k, v, **options).tobytes() == plain.tobytes()
            found = al.attention(query, k, v, return_weights=True, return_lse=True, **options)
            for name, a, b in zip(("out", "weights", "lse"), found, expected, strict=True):
                assert a.tobytes() == b.tobytes(), f"{dirt} reaches {name}"


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_beyond_key_lengths(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    arrays = make_qkv(rng, (4,), queries=queries, keys=keys, dtype=dtype)
    lengths = np.array([keys, keys - 1, 3, 0])
    unread = (np.arange(keys) >= lengths[:, None])[:, None]
    check(arrays, unread, dtype, key_lengths=lengths)
    check(arrays, unread, dtype, key_lengths=lengths, softcap=3.0, alibi_slopes=np.full(4, 0.1, dtype))


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_behind_a_mask(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    arrays = make_qkv(rng, queries=queries, keys=keys, dtype=dtype)
    unread = rng.random((2, 1, keys)) < 0.4
    check(arrays, unread, dtype, mask=~unread[:, :, None])
    per_query = ~unread[:, :, None] & (rng.random((2, 4, queries, keys)) < 0.7)
    check(arrays, unread, dtype, mask=per_query)
    check(arrays, np.ones(keys, bool), dtype, mask=np.zeros((1, 1), bool))


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_behind_a_bias_of_minus_infinity(
    queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    arrays = make_qkv(rng, queries=queries, keys=keys, dtype=dtype)
    unread = rng.random((2, 1, keys)) < 0.4
    bias = np.where(unread[:, :, None], np.asarray(-np.inf, dtype), np.asarray(0.5, dtype))
    check(arrays, unread, dtype, bias=bias)
    check(arrays, unread, dtype, bias=bias, softcap=3.0, causal=True, query_offset=keys)


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_in_the_future(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    arrays = make_qkv(rng, queries=queries, keys=keys, dtype=dtype)
    offset = 5
    check(arrays, np.arange(keys) > offset + queries - 1, dtype, causal=True, query_offset=offset)


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_outside_the_window(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    arrays = make_qkv(rng, queries=queries, keys=keys, dtype=dtype)
    offset, j = 9, np.arange(keys)
    unread = (j < offset - 4) | (j > offset + queries - 1 + 2)
    check(arrays, unread, dtype, window=(4, 2), query_offset=offset)
    check(arrays, j < keys - queries - 2, dtype, window=(2, None))


@by_dtype
def test_dirt_that_is_read_stays_in_its_row(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """A NaN query spoils its own row; dirt in one sequence or one group of heads leaves the others alone."""
    for queries in (1, 3, 40):
        query, key, value = make_qkv(rng, queries=queries, keys=40, dtype=dtype)
        expected = al.attention(query, key, value).astype(np.float64)
        spoilt = query.copy()
        spoilt[1, 2, queries // 2, 3] = np.nan
        wanted = expected.copy()
        wanted[1, 2, queries // 2] = np.nan
        assert np.array_equal(al.attention(spoilt, key, value).astype(np.float64), wanted, equal_nan=True)
        for spoil_key in (True, False):
            dirty = (key if spoil_key else value).copy()
            dirty[0, 1, 7] = np.nan
            arrays = (query, dirty, value) if spoil_key else (query, key, dirty)
            wanted = expected.copy()
            wanted[0, 2:] = np.nan
            assert np.array_equal(al.attention(*arrays).astype(np.float64), wanted, equal_nan=True)


@by_dtype
def test_causal_nan_query(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The padding rows of a batch of queries may hold anything."""
    query, key, value = make_qkv(rng, queries=40, keys=40, dtype=dtype)
    expected = al.attention(query, key, value, causal=True)
    query[:, :, 30:] = np.nan
    assert al.attention(query, key, value, causal=True)[:, :, :30].tobytes() == expected[:, :, :30].tobytes()
