"""attention with a few rows against many keys: the plan for decoding, over several of its chunks of keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import DTYPES, accumulator, normal, same_bits
from attention_check import check, make_qkv

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)

# A matrix unit decodes whole steps of 32 features, and leaves other sizes to the vectors.
by_features = pytest.mark.parametrize("features", [20, 64])

# Keys on both sides of the line between the plans, of a block and of a chunk.
KEYS = (63, 64, 65, 255, 256, 257, 530)


@by_dtype
@by_features
@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("queries", [1, 2, 5, 8, 9])
def test_lengths(
    queries: int, keys: int, features: int, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    """With 2 heads a group 5 queries are 10 rows (4, 4 and 2), 8 are the most, and 9 are tiles."""
    check(*make_qkv(rng, queries=queries, keys=keys, features=features, dtype=dtype), causal=True)


@by_dtype
@pytest.mark.parametrize("heads", [1, 2, 3, 7, 11, 16])
def test_rows(heads: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Every way of cutting rows into blocks, with one key/value head."""
    for value_features in (40, 64):
        check(*make_qkv(rng, (2,), heads, 1, 1, 300, 32, value_features, dtype=dtype))


@by_dtype
@pytest.mark.parametrize("features", [1, 7, 16, 31, 32, 33, 64, 96, 128, 130])
def test_features(features: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for value_features in (features, 3, 65, 96):
        check(*make_qkv(rng, (1,), 5, 1, 1, 70, features, value_features, dtype=dtype))


def options_of(rng: np.random.Generator, dtype: Any, keys: int) -> dict[str, dict[str, Any]]:
    bias = normal(rng, (4, 3, keys), dtype)
    bias[1, 0, 5:250] = -np.inf
    return {
        "mask": {"mask": rng.random((2, 1, 3, keys)) < 0.5},
        "mask of one column for all": {"mask": rng.random((2, 4, 3, 1)) < 0.7},
        "strided mask": {"mask": (rng.random((3, 2 * keys)) < 0.3)[:, ::2]},
        "bias": {"bias": bias},
        "strided bias": {"bias": normal(rng, (keys, 3), dtype).T},
        "softcap": {"softcap": 2.0, "scale": 0.7},
        "alibi": {"alibi_slopes": normal(rng, (4,), accumulator(dtype))},
        "sinks": {"sinks": normal(rng, (4,), accumulator(dtype)), "window": (20, None)},
        "window": {"window": (300, 2), "query_offset": [400, 31]},
        "lengths": {"key_lengths": [keys, 130], "causal": True},
        "nothing to see": {"query_offset": [-7, keys + 300], "causal": True, "window": (3, 3)},
        "all": {
            "mask": rng.random((2, 4, 3, keys)) < 0.8,
            "bias": bias,
            "softcap": 3.0,
            "causal": True,
            "window": (200, None),
            "alibi_slopes": normal(rng, (4,), accumulator(dtype)),
            "sinks": normal(rng, (4,), accumulator(dtype)),
            "key_lengths": [keys - 1, 300],
        },
    }


@by_dtype
@by_features
@pytest.mark.parametrize("threads", [1, 3])
def test_options(threads: int, features: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    arrays = make_qkv(rng, queries=3, keys=530, features=features, dtype=dtype)
    for options in options_of(rng, dtype, 530).values():
        with al.num_threads(threads):
            check(*arrays, **options)


@by_dtype
@by_features
def test_dirt_behind_a_mask(features: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """NaN and infinities where one row may look and another may not: the bits of the other do not move."""
    query, key, value = make_qkv(rng, (1,), 2, 1, 2, 530, features, dtype=dtype)
    mask = rng.random((1, 2, 2, 530)) < 0.6
    unread = np.flatnonzero(~mask[0, 1, 0])
    clean = al.attention(query, key, value, mask=mask)
    key[0, 0, unread[::3]] = np.nan
    value[0, 0, unread[1::3]] = np.inf
    value[0, 0, unread[2::3], 5] = np.nan
    dirty = al.attention(query, key, value, mask=mask)
    assert same_bits(dirty[0, 1, 0], clean[0, 1, 0])
    assert np.isnan(dirty[0, 1, 1].astype(np.float64)).any()


@by_dtype
def test_shared_chunks(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """One task for all chunks of a head, or one for each of them: the same bits, weights and lse too."""
    query, key, value = make_qkv(rng, (1,), 8, 2, 2, 5000, 64, dtype=dtype)
    results = []
    for threads in (1, 2, 3):
        with al.num_threads(threads):
            results.append(al.attention(query, key, value, causal=True, return_weights=True, return_lse=True))
    for result in results[1:]:
        assert all(same_bits(a, b) for a, b in zip(result, results[0], strict=True))


@by_dtype
@by_features
def test_a_row_of_nan_beside_one_that_sees_less(
    features: int, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    """The newest token is NaN, the one before sees less than it, and the keys end within a block."""
    query, key, value = make_qkv(rng, (1,), 1, 1, 2, 70, features, dtype=dtype)
    clean = al.attention(query, key, value, causal=True)
    query[..., 1, :] = key[..., 69, :] = value[..., 69, :] = np.nan
    dirty = al.attention(query, key, value, causal=True)
    assert same_bits(dirty[..., 0, :], clean[..., 0, :])
    assert np.isnan(dirty[..., 1, :].astype(np.float64)).all()


@by_dtype
@by_features
def test_varlen_of_both_plans(features: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """A ragged batch in which some sequences are decoded and others are prompts."""
    queries, keys = (1, 40, 0, 3, 1, 70), (700, 40, 90, 64, 10, 300)
    cu_q, cu_k = (np.concatenate([[0], np.cumsum(x)]) for x in (queries, keys))
    query = normal(rng, (cu_q[-1], 4, features), dtype)
    key, value = normal(rng, (cu_k[-1], 2, features), dtype), normal(rng, (cu_k[-1], 2, features), dtype)
    for threads in (1, 2):
        with al.num_threads(threads):
            packed = al.attention_varlen(query, key, value, cu_q, cu_k, causal=True)
        for n in range(len(queries)):
            q, k = slice(cu_q[n], cu_q[n + 1]), slice(cu_k[n], cu_k[n + 1])
            alone = al.attention(
                query[q].swapaxes(0, 1), key[k].swapaxes(0, 1), value[k].swapaxes(0, 1), causal=True
            )
            assert same_bits(packed[q].swapaxes(0, 1), alone), f"sequence {n}"


@by_dtype
@pytest.mark.parametrize("places", [530, 65, 64, 63, 1])
@pytest.mark.parametrize("beams", [2, 8, 9])
def test_beams_have_the_bits_of_sequences(
    beams: int, places: int, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    """One memory for all: with 2 heads a group, 8 beams are decoded together, 9 are not."""
    query = normal(rng, (beams, 4, 1, 32), dtype)
    key, value = normal(rng, (1, 2, 530, 32), dtype), normal(rng, (1, 2, 530, 40), dtype)
    options: dict[str, Any] = {"key_lengths": [places], "softcap": 2.0}
    options["sinks"] = normal(rng, (4,), accumulator(dtype))
    apart = (np.concatenate([array] * beams) for array in (key, value))
    wanted = al.attention(query, *apart, **options)
    assert same_bits(al.attention(query, key, value, **options), wanted)
    repeated = (np.broadcast_to(array, (beams, *array.shape[1:])) for array in (key, value))
    assert same_bits(al.attention(query, *repeated, **options), wanted)
    # As a decoder lays out its heads.
    out = np.zeros((beams, 1, 4, 40), dtype)
    al.attention(query, key, value, **options, out=out.swapaxes(1, 2))
    assert same_bits(out.swapaxes(1, 2), wanted)
