"""Run attention with some options and hold everything it returns against the oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from arrays import FLOAT32, accumulator, normal
from tolerance import assert_within, attention_bounds

import attnlib as al

Array = np.ndarray[Any, Any]


def make_qkv(
    rng: np.random.Generator,
    batch: tuple[int, ...] = (2,),
    heads: int = 4,
    groups: int = 2,
    queries: int = 9,
    keys: int = 13,
    features: int = 8,
    value_features: int | None = None,
    dtype: Any = FLOAT32,
) -> tuple[Array, Array, Array]:
    """Random normal query (*batch, H, Sq, D), key (*batch, G, Sk, D) and value (*batch, G, Sk, Dv)."""
    return (
        normal(rng, (*batch, heads, queries, features), dtype),
        normal(rng, (*batch, groups, keys, features), dtype),
        normal(rng, (*batch, groups, keys, features if value_features is None else value_features), dtype),
    )


def check(query: Array, key: Array, value: Array, **options: Any) -> Array:
    """Check output, weights and lse, asked for together and apart; return the output."""
    result = al.attention(query, key, value, **options)
    exact = oracle.attention(query, key, value, **options)
    bounds = attention_bounds(exact, query.shape[-1], query.dtype)
    assert isinstance(result, np.ndarray)
    assert result.dtype == query.dtype
    assert_within(result, exact.output, bounds[0], what="output")

    alone, lse = al.attention(query, key, value, return_lse=True, **options)
    assert lse.dtype == accumulator(query.dtype)
    assert_within(lse, exact.lse, bounds[2], what="lse")
    assert alone.tobytes() == result.tobytes(), "return_lse moves the output"

    both, weights, lse_too = al.attention(query, key, value, return_weights=True, return_lse=True, **options)
    assert weights.dtype == query.dtype
    assert lse_too.dtype == lse.dtype
    assert_within(weights, exact.weights, bounds[1], what="weights")
    assert_within(both, exact.output, bounds[0], what="output beside weights")
    assert_within(lse_too, exact.lse, bounds[2], what="lse beside weights")

    pair = al.attention(query, key, value, return_weights=True, **options)
    assert len(pair) == 2
    assert_within(pair[1], exact.weights, bounds[1], what="weights without lse")
    return result
