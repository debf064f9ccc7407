"""The result has the input's dtype; mixed floats promote as NumPy does, the two halves as PyTorch does."""

from __future__ import annotations

import tracemalloc
from itertools import permutations
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import BFLOAT16, DTYPES, FLOAT16, FLOAT32, accumulator, epsilon, normal, same_bits
from tolerance import assert_within, attention_bounds, linear_bound, matmul_bound

import attnlib as al

PAIRS = list(permutations(DTYPES.values(), 2))
by_pair = pytest.mark.parametrize(("first", "second"), PAIRS, ids=[f"{a.name}-{b.name}" for a, b in PAIRS])


def promoted(first: np.dtype[Any], second: np.dtype[Any]) -> np.dtype[Any]:
    """NumPy's answer; it has none for the two half precisions, PyTorch has float32."""
    return FLOAT32 if {first, second} == {FLOAT16, BFLOAT16} else np.promote_types(first, second)


@by_pair
def test_matmul(first: np.dtype[Any], second: np.dtype[Any], rng: np.random.Generator) -> None:
    a, b = normal(rng, (2, 5, 17), first), normal(rng, (17, 6), second)
    result = al.matmul(a, b)
    assert result.dtype == promoted(first, second)
    eps = epsilon(accumulator(result.dtype))
    assert_within(result, oracle.matmul(a, b), matmul_bound(a, b, eps))
    out = np.empty(result.shape, result.dtype)
    assert al.matmul(a, b, out=out) is out
    assert out.tobytes() == result.tobytes()
    with pytest.raises(TypeError, match="out"):
        al.matmul(
            a, b, out=np.empty(result.shape, next(d for d in (first, second, FLOAT16) if d != result.dtype))
        )


@by_pair
def test_linear(first: np.dtype[Any], second: np.dtype[Any], rng: np.random.Generator) -> None:
    x, weight = normal(rng, (5, 17), first), normal(rng, (6, 17), second)
    bias = normal(rng, (6,), second)
    result = al.linear(x, weight, bias)
    assert result.dtype == promoted(first, second)
    eps = epsilon(accumulator(result.dtype))
    assert_within(result, oracle.linear(x, weight, bias), linear_bound(x, weight, bias, None, eps))


@by_pair
def test_swiglu(first: np.dtype[Any], second: np.dtype[Any], rng: np.random.Generator) -> None:
    gate, up = normal(rng, (5, 17), first), normal(rng, (5, 17), second)
    result = al.swiglu(gate, up)
    assert result.dtype == promoted(first, second)
    exact = oracle.swiglu(gate, up)
    assert_within(result, exact, 20 * epsilon(accumulator(result.dtype)) * np.abs(exact))


@by_pair
def test_residual(first: np.dtype[Any], second: np.dtype[Any], rng: np.random.Generator) -> None:
    x, residual = normal(rng, (5, 17), first), normal(rng, (5, 17), second)
    for norm, exact in ((al.layer_norm, oracle.layer_norm), (al.rms_norm, oracle.rms_norm)):
        result = norm(x, residual=residual)
        assert result.dtype == promoted(first, second)
        assert_within(result, exact(x, residual=residual), 100 * epsilon(accumulator(result.dtype)))


@by_pair
def test_attention(first: np.dtype[Any], second: np.dtype[Any], rng: np.random.Generator) -> None:
    for dtypes in ((first, second, second), (first, second, first), (first, first, second)):
        query, key, value = (normal(rng, (2, 2, 9, 8), dtype) for dtype in dtypes)
        result, weights, lse = al.attention(query, key, value, return_weights=True, return_lse=True)
        assert result.dtype == weights.dtype == promoted(first, second)
        assert lse.dtype == accumulator(result.dtype)
        exact = oracle.attention(query, key, value)
        bounds = attention_bounds(exact, 8, result.dtype)
        assert_within(result, exact.output, bounds[0])
        assert_within(weights, exact.weights, bounds[1])
        assert_within(lse, exact.lse, bounds[2])


@by_pair
def test_bias_promotes_slopes_and_sinks_do_not(
    first: np.dtype[Any], second: np.dtype[Any], rng: np.random.Generator
) -> None:
    """A bias is a matrix of scores like the products; slopes and sinks are parameters."""
    query, key, value = (normal(rng, (2, 2, 9, 8), first) for _ in range(3))
    bias, heads = normal(rng, (9, 9), second), normal(rng, (2,), second)
    result = al.attention(query, key, value, bias=bias)
    assert result.dtype == promoted(first, second)
    exact = oracle.attention(query, key, value, bias=bias)
    assert_within(result, exact.output, attention_bounds(exact, 8, result.dtype)[0])
    result = al.attention(query, key, value, alibi_slopes=heads, sinks=heads)
    assert result.dtype == first
    used = heads.astype(accumulator(first))
    exact = oracle.attention(query, key, value, alibi_slopes=used, sinks=used)
    assert_within(result, exact.output, attention_bounds(exact, 8, result.dtype)[0])


def test_python_lists_are_float64() -> None:
    """What np.asarray makes of them."""
    assert al.relu([-1.0, 2.0]).dtype == np.float64
    assert al.matmul([[1.0, 2.0]], [[3.0], [4.0]]).tolist() == [[11.0]]


def test_scalars() -> None:
    """A 0-d array keeps its dtype through an elementwise operation."""
    for dtype in DTYPES.values():
        result = al.relu(np.array(2.0, dtype))
        assert np.shape(result) == ()
        assert result.dtype == dtype
        assert float(result) == 2.0


def test_python_numbers_have_the_dtype_of_the_arrays() -> None:
    """NumPy's weak scalars."""
    for dtype in DTYPES.values():
        x = np.ones((2, 3), dtype)
        assert al.swiglu(x, 2.0).dtype == dtype
        assert al.linear(x, x, residual=0.5).dtype == dtype
        assert al.attention(x, x, x, bias=0.5).dtype == dtype
    assert al.swiglu(1.0, 2.0).dtype == np.float64
    assert al.swiglu(np.ones(3, np.float32), np.float64(2.0)).dtype == np.float64


def test_what_is_broadcast_is_converted_once(rng: np.random.Generator) -> None:
    """A bias of another dtype, or byte order, takes the memory of what it is made of, not of all scores."""
    length = 600
    x = normal(rng, (8, length, 16), np.float32)
    for bias in (normal(rng, (length,), np.float16), normal(rng, (length,), np.float32).astype(">f4")):
        wide = np.broadcast_to(bias, (8, length, length))
        expected = al.attention(x, x, x, bias=np.ascontiguousarray(wide, np.float32))
        tracemalloc.start()
        result = al.attention(x, x, x, bias=wide)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert same_bits(result, expected)
        assert peak < result.nbytes + 100_000  # all scores: 11.5 MB
    # The last axis must be contiguous: it alone is expanded.
    values = np.broadcast_to(normal(rng, (length, 1), np.float16), (8, length, 16))
    expected = al.attention(x, x, np.ascontiguousarray(values, np.float32))
    assert same_bits(al.attention(x, x, values), expected)
