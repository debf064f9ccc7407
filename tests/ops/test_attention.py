"""attention: every option alone, in every dtype, against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, FULL, normal, same_bits
from attention_check import check, make_qkv
from tolerance import assert_within, attention_bounds

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)

# (Sq, Sk): a decode step, a few queries, blocks on both sides of vector and key-block widths, more queries
# than keys.
LENGTHS = ((1, 1), (1, 70), (3, 17), (17, 17), (33, 65), (70, 9), (65, 130), (130, 129))


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_plain(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    check(*make_qkv(rng, queries=queries, keys=keys, features=16, dtype=dtype))


@by_dtype
@pytest.mark.parametrize("features", [32, 64])
def test_keys_that_begin_anywhere(features: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The same bits wherever in a cache line keys begin; with queries enough for copying them to pay."""
    query, key, value = (normal(rng, (4, 256, features), dtype) for _ in range(3))
    results = []
    with al.num_threads(1):
        for offset in (0, 16, 40):
            moved = []
            for array in (key, value):
                memory = np.empty(array.nbytes + 128, np.uint8)
                first = -memory.ctypes.data % 64 + offset
                moved.append(memory[first : first + array.nbytes].view(dtype).reshape(array.shape))
                moved[-1][...] = array
            results.append(al.attention(query, *moved))
    assert all(same_bits(result, results[0]) for result in results)
    check(query, key, value)


@by_dtype
@pytest.mark.parametrize("features", [1, 2, 3, 7, 8, 15, 16, 17, 32, 33, 63, 64, 65, 80, 96, 128, 130, 256])
def test_features(features: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Head sizes on both sides of the vector widths, and Dv that differs from D."""
    for value_features in (features, 1, 24, 65):
        for queries in (1, 33):
            check(
                *make_qkv(rng, (1,), 2, 1, queries, 40, features, value_features, dtype=dtype),
            )


@by_dtype
@pytest.mark.parametrize(("heads", "groups"), [(1, 1), (2, 2), (3, 1), (6, 3), (8, 2), (12, 1), (16, 1)])
def test_grouped_queries(heads: int, groups: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Query head h reads key and value head h // (H / G)."""
    for queries in (1, 2, 20):
        check(*make_qkv(rng, (2,), heads, groups, queries, 33, dtype=dtype))


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_causal(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Bottom-right aligned: the last query sees the last key; with Sq > Sk the first ones see nothing."""
    output = check(*make_qkv(rng, queries=queries, keys=keys, dtype=dtype), causal=True)
    assert np.all(output[..., : max(queries - keys, 0), :] == 0)


@by_dtype
@pytest.mark.parametrize(
    "window",
    [(0, 0), (3, 0), (0, 3), (5, 2), (None, 2), (2, None), (None, None), (1000, 1000), (20, 0)],
    ids=str,
)
def test_window(
    window: tuple[int | None, int | None], dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    for queries, keys in ((1, 40), (30, 30), (20, 70), (70, 33)):
        arrays = make_qkv(rng, (1,), queries=queries, keys=keys, dtype=dtype)
        check(*arrays, window=window)
        check(*arrays, window=window, causal=True)


def test_window_skips_far_blocks(rng: np.random.Generator) -> None:
    """A window much narrower than the sequence: whole key blocks before and after it are left out."""
    check(*make_qkv(rng, (1,), 1, 1, 600, 600), window=(40, 10))
    check(*make_qkv(rng, (1,), 1, 1, 600, 700), window=(40, 0), causal=True)
    check(*make_qkv(rng, (1,), 1, 1, 1, 3000), window=(40, 0))


@by_dtype
@pytest.mark.parametrize("offset", [0, 3, 12, 13, 100, -1, -5, -100])
def test_query_offset(offset: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Query i stands at offset + i, before, inside or after the keys."""
    arrays = make_qkv(rng, dtype=dtype)
    check(*arrays, query_offset=offset, causal=True)
    check(*arrays, query_offset=offset, window=(4, 1))
    check(*arrays, query_offset=offset, alibi_slopes=np.full(4, 0.25, dtype))
    for per_batch in (
        np.array([offset, 2]),
        np.array([5, offset], np.int32),
        np.array([offset, offset])[::-1],
    ):
        check(*arrays, query_offset=per_batch, causal=True, window=(6, None))


@by_dtype
def test_query_offset_of_a_list(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    arrays = make_qkv(rng, dtype=dtype)
    expected = al.attention(*arrays, query_offset=np.array([1, 7]), causal=True)
    assert al.attention(*arrays, query_offset=[1, 7], causal=True).tobytes() == expected.tobytes()
    assert al.attention(*arrays, query_offset=(1, 7), causal=True).tobytes() == expected.tobytes()


@by_dtype
@pytest.mark.parametrize("integer", [np.int64, np.int32, np.uint8], ids=lambda d: d.__name__)
def test_key_lengths(integer: Any, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Only the first keys are valid, and positions align to the last valid one."""
    arrays = make_qkv(rng, (5,), dtype=dtype)
    lengths = np.array([13, 0, 1, 7, 12], integer)
    output = check(*arrays, key_lengths=lengths)
    assert np.all(output[1] == 0)
    check(*arrays, key_lengths=lengths, causal=True)
    check(*arrays, key_lengths=lengths, window=(3, 1))
    check(*arrays, key_lengths=lengths, causal=True, query_offset=4)
    check(*arrays, key_lengths=lengths.tolist(), causal=True)


@by_dtype
# 1e-40 is subnormal in float32, and counts as 0 there; 40 keys leave a part of a block unused.
@pytest.mark.parametrize("scale", [1.0, 0.125, -0.5, 0.0, 3.0, 1e-40])
def test_scale(scale: float, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    check(*make_qkv(rng, dtype=dtype), scale=scale)
    check(*make_qkv(rng, queries=32, keys=40, dtype=dtype), scale=scale)


@by_dtype
@pytest.mark.parametrize("softcap", [0.5, 5.0, 50.0])
def test_softcap(softcap: float, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for queries in (1, 40):
        check(*make_qkv(rng, queries=queries, keys=50, dtype=dtype), softcap=softcap, scale=2.0)


MASKS = ((2, 4, 9, 13), (1, 1, 9, 13), (2, 1, 1, 13), (2, 4, 9, 1), (4, 1, 1), (9, 13), (13,), (1,), ())


@by_dtype
@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_mask(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """True may attend; any shape that broadcasts to (B, H, Sq, Sk)."""
    arrays = make_qkv(rng, dtype=dtype)
    check(*arrays, mask=rng.random(shape) < 0.6)
    check(*arrays, mask=np.ones(shape, bool))
    assert np.all(check(*arrays, mask=np.zeros(shape, bool)) == 0)


@by_dtype
@pytest.mark.parametrize("shape", MASKS, ids=str)
def test_bias(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Added after softcap; -inf removes."""
    arrays = make_qkv(rng, dtype=dtype)
    bias = normal(rng, shape, dtype, 2.0)
    check(*arrays, bias=bias)
    check(*arrays, bias=bias, softcap=1.0)
    removing = np.where(rng.random(shape) < 0.5, bias, np.asarray(-np.inf, dtype))
    check(*arrays, bias=removing)
    assert np.all(check(*arrays, bias=np.full(shape, -np.inf, dtype)) == 0)


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_mask_and_bias_of_each_length(
    queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    shape = (2, 4, queries, keys)
    arrays = make_qkv(rng, queries=queries, keys=keys, dtype=dtype)
    check(*arrays, mask=rng.random(shape) < 0.5, bias=normal(rng, shape, dtype))


@by_dtype
def test_large_finite_bias_is_not_a_removal(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """A row whose every bias is a large negative number is an ordinary softmax of what differs."""
    lowest = -60000.0 if dtype == np.float16 else -1e9
    arrays = make_qkv(rng, dtype=dtype)
    bias = np.zeros((9, 13), dtype)
    bias[:, 5:] = lowest
    check(*arrays, bias=bias)
    output = check(*arrays, bias=np.full((9, 13), lowest, dtype))
    assert np.any(output != 0)


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_alibi(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """-slope |position(i) - j|, on both sides of the diagonal."""
    slopes = np.array([0.5, 0.25, 0.0, 1.0], dtype)
    arrays = make_qkv(rng, queries=queries, keys=keys, dtype=dtype)
    check(*arrays, alibi_slopes=slopes)
    check(*arrays, alibi_slopes=slopes, causal=True)
    check(*arrays, alibi_slopes=slopes, key_lengths=[keys, keys // 2])


@by_dtype
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
def test_sinks(queries: int, keys: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """One more logit in the denominator, small, comparable, large, or absent (-inf)."""
    arrays = make_qkv(rng, queries=queries, keys=keys, dtype=dtype)
    check(*arrays, sinks=np.array([0.0, 1.0, -3.0, 4.0], dtype))
    check(*arrays, sinks=np.array([50.0, -50.0, 200.0, -200.0], dtype), causal=True)
    plain = al.attention(*arrays)
    absent = al.attention(*arrays, sinks=np.full(4, -np.inf, dtype))
    exact = oracle.attention(*arrays)
    assert_within(absent, exact.output, attention_bounds(exact, 8, dtype)[0])
    assert plain.shape == absent.shape


@by_dtype
def test_nothing_to_attend_to(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Zeros and -inf, whatever took the keys away, and with sinks too."""
    arrays = make_qkv(rng, dtype=dtype)
    removals: list[dict[str, Any]] = [
        {"mask": np.zeros((9, 13), bool)},
        {"bias": np.full((9, 13), -np.inf, dtype)},
        {"key_lengths": [0, 0]},
        {"causal": True, "query_offset": -100},
        {"window": (1, 1), "query_offset": 1000},
    ]
    for removal in removals:
        for sinks in (None, np.array([0.0, 5.0, -5.0, 1.0], dtype)):
            out, weights, lse = al.attention(
                *arrays, **removal, sinks=sinks, return_weights=True, return_lse=True
            )
            assert np.all(out == 0), removal
            assert np.all(weights == 0), removal
            assert np.all(np.isneginf(lse)), removal


@by_dtype
def test_large_scores(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Scores in the thousands: one key takes it all, nothing overflows."""
    query, key, value = make_qkv(rng, queries=20, keys=70, dtype=dtype)
    check(query, key, value, scale=1000.0)
    check(np.abs(query), -np.abs(key), value, scale=1000.0)


@pytest.mark.parametrize("shape", ["2-D", "3-D", "5-D", "6-D"])
@by_dtype
def test_ranks(shape: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """2-D arrays are one head; any number of leading batch axes."""
    batch = {"2-D": (), "3-D": (), "5-D": (2, 3), "6-D": (2, 1, 3)}[shape]
    query, key, value = make_qkv(rng, batch, dtype=dtype)
    if shape == "2-D":
        query, key, value = query[0], key[0], value[0]
    check(query, key, value)
    full = (*query.shape[:-1], key.shape[-2])
    check(
        query,
        key,
        value,
        causal=True,
        window=(5, None),
        mask=rng.random(full) < 0.7,
        bias=normal(rng, full, dtype),
    )
    slopes = np.full(1 if shape == "2-D" else 4, 0.5, dtype)
    check(query, key, value, alibi_slopes=slopes, sinks=slopes)


@pytest.mark.parametrize(
    "batches",
    [((2,), (1,), (2,)), ((1,), (3,), (3,)), ((), (2,), (2,)), ((2,), (), ()), ((2, 1), (3,), (1, 1))],
    ids=str,
)
@by_dtype
def test_batches_broadcast(
    batches: tuple[tuple[int, ...], ...], dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    """As np.matmul's do; a per-batch option has the shape of the result's batch."""
    shapes = ((4, 9, 8), (2, 13, 8), (2, 13, 6))
    arrays = [normal(rng, (*batch, *shape), dtype) for batch, shape in zip(batches, shapes, strict=True)]
    check(*arrays)
    batch = np.broadcast_shapes(*batches)
    lengths = rng.integers(0, 14, batch)
    check(*arrays, key_lengths=lengths, causal=True)
    check(*arrays, query_offset=lengths, causal=True)
    check(*arrays, mask=rng.random((*batch, 4, 9, 13)) < 0.6)


def test_empty_axes(rng: np.random.Generator) -> None:
    """No batch, no heads, no queries, no keys, no features: empty or zero results, never an error."""
    for dtype in DTYPES.values():
        for sizes in (
            {"batch": (0,)},
            {"batch": (2, 0)},
            {"heads": 0, "groups": 1},
            {"heads": 0, "groups": 0},
            {"queries": 0},
            {"keys": 0},
            {"queries": 0, "keys": 0},
            {"features": 0, "value_features": 5},
            {"value_features": 0},
        ):
            arrays = make_qkv(rng, dtype=dtype, **sizes)
            check(*arrays)
            check(*arrays, causal=True, window=(3, 3))
    with pytest.raises(ValueError, match=r"(?s)^attention"):
        al.attention(*make_qkv(rng, heads=4, groups=0))


@by_dtype
def test_out(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """out comes first in the tuple; it may be the query, or a view with heads last."""
    query, key, value = make_qkv(rng, queries=33, keys=65, dtype=dtype)
    expected, weights, lse = al.attention(query, key, value, return_weights=True, return_lse=True)
    out = np.empty((2, 33, 4, 8), dtype).swapaxes(1, 2)
    result = al.attention(query, key, value, return_weights=True, return_lse=True, out=out)
    assert result[0] is out
    assert out.tobytes() == expected.tobytes()
    assert result[1].tobytes() == weights.tobytes()
    assert result[2].tobytes() == lse.tobytes()
    al.attention(query, key, value, causal=True, out=query)
    assert query.tobytes() != expected.tobytes()


@pytest.mark.parametrize("queries", (1, 2, 7, 8, 16) if not FULL else range(1, 40))
@by_dtype
def test_decoding_against_a_long_cache(queries: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The plan for few queries: several chunks of keys, grouped heads, a cache longer than what is valid."""
    arrays = make_qkv(rng, (2,), 6, 2, queries, 2100, 16, dtype=dtype)
    check(*arrays, causal=True, key_lengths=[2077, 3])
    check(*arrays, causal=True, window=(700, None), sinks=np.linspace(-1, 1, 6).astype(dtype), softcap=20.0)
    check(
        *arrays,
        mask=rng.random((2, 1, queries, 2100)) < 0.5,
        alibi_slopes=np.linspace(0, 0.01, 6).astype(dtype),
    )


def test_a_mask_of_one_head_for_matrices(rng: np.random.Generator) -> None:
    """2-D arrays are one head, and a mask or bias may name it."""
    query, key = normal(rng, (3, 4), np.float32), normal(rng, (5, 4), np.float32)
    mask, bias = np.tri(3, 5, 1, dtype=bool), normal(rng, (3, 5), np.float32)
    expected = al.attention(query, key, key, mask=mask, bias=bias)
    assert same_bits(al.attention(query, key, key, mask=mask[None], bias=bias[None]), expected)
    with pytest.raises(ValueError, match=r"mask .*\(2, 3, 5\)"):
        al.attention(query, key, key, mask=np.stack([mask, mask]))


def test_no_queries_and_no_end_of_sequences() -> None:
    """Nothing to write is nothing to do, however many sequences."""
    nothing = np.empty((2**40, 1, 0, 4), np.float32)
    assert al.attention(nothing, nothing, nothing).shape == nothing.shape
    assert al.matmul(nothing, np.ones((4, 3), np.float32)).shape == (2**40, 1, 0, 3)
    assert al.matmul(nothing, np.broadcast_to(np.float32(1), (2**40, 1, 4, 3))).shape == (2**40, 1, 0, 3)
