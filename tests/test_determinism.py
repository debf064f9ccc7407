"""The bits of a result do not move: not with threads, batch size, the rest of the batch, or padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import DTYPES, FULL, normal, same_bits
from attention_check import make_qkv
from cases import BATCHED, CASES, Case

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
THREADS = (1, 2, 3)


@by_dtype
@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Large enough to be split, and not into equal parts."""
    inputs = case.make(rng, dtype, case.large + 3 if FULL else case.large // 2 + 3)
    results = []
    for threads in (1, 2, 3, 2):
        with al.num_threads(threads):
            results.append(case.call(inputs))
    for result in results[1:]:
        assert same_bits(result, results[0])


@by_dtype
@pytest.mark.parametrize("case", BATCHED, ids=str)
def test_batch(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """A batch entry alone gives the bits it has in the batch."""
    for width in (1, 17, 70, 140):
        inputs = case.make(rng, dtype, width)
        together = case.call(inputs)
        for n in range(3):
            alone = {name: x[n : n + 1] if name in case.batched else x for name, x in inputs.items()}
            assert same_bits(case.call(alone), together[n : n + 1]), f"entry {n}, width {width}"


@by_dtype
@pytest.mark.parametrize("packed", [False, True], ids=("plain", "packed"))
@pytest.mark.parametrize("features", [5, 384, 1000])
def test_rows_of_linear(features: int, packed: bool, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """A token's projection does not depend on how many tokens are projected with it."""
    x, weight = normal(rng, (131, features), dtype), normal(rng, (70, features), dtype, features**-0.5)
    bias, residual = normal(rng, (70,), dtype), normal(rng, (131, 70), dtype)
    weight = al.pack_weight(weight) if packed else weight
    together = al.linear(x, weight, bias, activation="gelu", residual=residual)
    for start, stop in ((0, 1), (7, 9), (40, 45), (60, 76), (100, 131), (3, 103)):
        rows = slice(start, stop)
        part = al.linear(x[rows], weight, bias, activation="gelu", residual=residual[rows])
        assert same_bits(part, together[rows]), f"rows {start} to {stop}"


@by_dtype
@pytest.mark.parametrize("depth", [5, 384, 1000])
def test_rows_and_columns_of_matmul(depth: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """An element's sum depends on its reduction length alone."""
    a, b = normal(rng, (67, depth), dtype), normal(rng, (depth, 90), dtype)
    together = al.matmul(a, b)
    for start, stop in ((0, 1), (7, 9), (20, 25), (30, 46), (36, 67)):
        assert same_bits(al.matmul(a[start:stop], b), together[start:stop]), f"rows {start} to {stop}"
        assert same_bits(al.matmul(a, b[:, start:stop]), together[:, start:stop]), (
            f"columns {start} to {stop}"
        )
    stacked = al.matmul(np.stack([a, a]), b)
    assert same_bits(stacked[1], together)


@by_dtype
@pytest.mark.parametrize(
    "case", [c for c in CASES if "x" in c.batched and not c.name.startswith(("linear", "rotary"))], ids=str
)
def test_rows(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """One row alone: softmax, norms, activations."""
    inputs = case.make(rng, dtype, 300)
    together = case.call(inputs)
    per_row = {name for name, x in inputs.items() if x.ndim == 3}
    for n in range(4):
        alone = {name: x[1:2, n : n + 1] if name in per_row else x for name, x in inputs.items()}
        assert same_bits(case.call(alone), together[1:2, n : n + 1])


# --- attention --------------------------------------------------------------------------------

PADDED: list[dict[str, Any]] = [
    {},
    {"causal": True},
    {"window": (30, 4)},
    {"softcap": 5.0, "scale": 0.3},
    {"alibi_slopes": np.array([0.1, 0.2, 0.0, 0.4]), "sinks": np.array([1.0, -1.0, 0.0, 3.0])},
]
by_options = pytest.mark.parametrize("options", PADDED, ids=lambda o: "+".join(o) or "plain")


def in_dtype(options: dict[str, Any], dtype: Any) -> dict[str, Any]:
    return {name: x.astype(dtype) if isinstance(x, np.ndarray) else x for name, x in options.items()}


@by_options
@by_dtype
@pytest.mark.parametrize("queries", [1, 3, 40, 140])
def test_padding(
    queries: int, dtype: np.dtype[Any], options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Keys padded with NaN, garbage or nothing; a short batch padded to a long one."""
    options = in_dtype(options, dtype)
    lengths = (1, 17, 64, 130, 200)
    query, key, value = make_qkv(rng, (5,), queries=queries, keys=200, dtype=dtype)
    results = []
    for threads, garbage in zip(THREADS, (1.0, np.nan, 1e4), strict=True):
        for n, length in enumerate(lengths):
            key[n, :, length:] = value[n, :, length:] = garbage
        with al.num_threads(threads):
            results.append(al.attention(query, key, value, key_lengths=lengths, **options))
    for n, length in enumerate(lengths):
        trimmed = al.attention(query[[n]], key[[n], :, :length], value[[n], :, :length], **options)
        for result in results:
            assert same_bits(result[[n]], trimmed), f"length {length}"


@by_dtype
@pytest.mark.parametrize("queries", [1, 2, 8])
def test_padding_of_a_long_cache(queries: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The chunks of the decoding plan follow the valid keys, not the cache's capacity."""
    query, key, value = make_qkv(rng, (3,), 6, 2, queries, 3000, 16, dtype=dtype)
    lengths = (3000, 1025, 7)
    for threads in (1, 2, 3):
        with al.num_threads(threads):
            together = al.attention(query, key, value, key_lengths=lengths, causal=True)
            for n, length in enumerate(lengths):
                parts = query[n : n + 1], key[n : n + 1, :, :length], value[n : n + 1, :, :length]
                alone = al.attention(*parts, causal=True)
                assert same_bits(together[n : n + 1], alone), f"length {length}"


@by_options
@by_dtype
def test_varlen_and_padded(dtype: np.dtype[Any], options: dict[str, Any], rng: np.random.Generator) -> None:
    """Self-attention of packed sequences and of each trimmed from a padded batch."""
    options = in_dtype(options, dtype)
    lengths = np.array([100, 33, 0, 64, 1, 140, 2])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    padded = [np.full((len(lengths), heads, 140, 8), np.nan, dtype) for heads in (4, 2, 2)]
    packed = [normal(rng, (offsets[-1], heads, 8), dtype) for heads in (4, 2, 2)]
    for n, length in enumerate(lengths):
        for target, source in zip(padded, packed, strict=True):
            target[n, :, :length] = source[offsets[n] : offsets[n + 1]].swapaxes(0, 1)
    for threads in THREADS:
        with al.num_threads(threads):
            result, lse = al.attention_varlen(*packed, offsets, return_lse=True, **options)
        for n, length in enumerate(lengths):
            alone, alone_lse = al.attention(*(x[[n], :, :length] for x in padded), return_lse=True, **options)
            rows = slice(offsets[n], offsets[n + 1])
            assert same_bits(result[rows].swapaxes(0, 1)[None], alone), f"length {length}"
            assert same_bits(lse[rows].T[None], alone_lse), f"length {length}"


@by_dtype
@pytest.mark.parametrize("length", [1, 3, 17, 64, 100, 139])
def test_padded_queries(length: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Sequences padded on the query side too."""
    query, key, value = make_qkv(rng, (1,), queries=140, keys=140, dtype=dtype)
    trimmed = tuple(x[:, :, :length].copy() for x in (query, key, value))
    for array in (query, key, value):
        array[:, :, length:] = np.nan
    for options in ({}, {"causal": True}):
        padded = al.attention(query, key, value, key_lengths=[length], query_offset=0, **options)
        assert same_bits(padded[:, :, :length], al.attention(*trimmed, **options))


@by_options
@by_dtype
@pytest.mark.parametrize("keys", [70, 1500])
def test_queries_alone(
    keys: int, dtype: np.dtype[Any], options: dict[str, Any], rng: np.random.Generator
) -> None:
    """Two plans: queries among many have the bits of the whole prompt, decoded ones those of one alone."""
    options = in_dtype(options, dtype)
    query, key, value = make_qkv(rng, (2,), queries=60, keys=keys, dtype=dtype)

    def attend(start: int, stop: int) -> Any:
        offset = keys - 60 + start
        return al.attention(query[:, :, start:stop], key, value, query_offset=offset, **options)

    together = attend(0, 60)
    for start, stop in ((0, 9), (20, 33), (30, 47), (51, 60)):
        assert same_bits(attend(start, stop), together[:, :, start:stop]), f"queries {start} to {stop}"
    # 16 rows a key/value head, the most that are decoded: 2 query heads share one.
    decoded = attend(52, 60)
    for start, stop in ((52, 53), (53, 56), (57, 60), (59, 60)):
        few = decoded[:, :, start - 52 : stop - 52]
        assert same_bits(attend(start, stop), few), f"queries {start} to {stop}"


@by_dtype
def test_broadcast_batch(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Keys shared by a batch (stride 0) and the same keys repeated in memory."""
    for queries in (1, 40):
        query, key, value = make_qkv(rng, (3,), queries=queries, keys=70, dtype=dtype)
        shared = al.attention(query, key[:1], value[:1], causal=True)
        repeated = al.attention(query, np.repeat(key[:1], 3, 0), np.repeat(value[:1], 3, 0), causal=True)
        assert same_bits(shared, repeated)


@by_dtype
def test_again(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The same call twice: nothing is left behind in the workspace."""
    for case in CASES:
        inputs, other = case.make(rng, dtype, 60), case.make(rng, dtype, 90)
        first = case.call(inputs)
        case.call(other)
        assert same_bits(case.call(inputs), first), case.name
