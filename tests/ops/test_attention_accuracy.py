"""The accuracy that the project promises: random normal inputs, relative to the largest output."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from arrays import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, FULL, epsilon
from attention_check import make_qkv

import attnlib as al


def largest_error(
    queries: int, keys: int, dtype: Any, rng: np.random.Generator, **options: Any
) -> tuple[float, float]:
    """Largest error and largest output, over all rows or a random sample of them."""
    query, key, value = make_qkv(rng, (1,), 1, 1, queries, keys, 64, dtype=dtype)
    result = al.attention(query, key, value, **options).astype(np.float64)
    rows = np.arange(queries) if FULL or queries <= 512 else np.sort(rng.choice(queries, 512, replace=False))
    error = largest = 0.0
    for block in np.array_split(rows, -(-len(rows) // 256)):
        mask = None
        if options.get("causal"):
            mask = np.arange(keys) <= block[:, None] + keys - queries
        exact = oracle.attention(query[..., block, :], key, value, mask=mask).output
        error = max(error, float(np.max(np.abs(result[..., block, :] - exact))))
        largest = max(largest, float(np.max(np.abs(exact))))
    return error, largest


@pytest.mark.parametrize("causal", [False, True], ids=("full", "causal"))
@pytest.mark.parametrize("size", [64, 128, 512, 1024, 2048, 4096])
def test_float32(size: int, causal: bool, rng: np.random.Generator) -> None:
    error, largest = largest_error(size, size, FLOAT32, rng, causal=causal)
    assert error <= 2e-6 * largest


@pytest.mark.parametrize("queries", [1, 4])
def test_float32_decoding(queries: int, rng: np.random.Generator) -> None:
    error, largest = largest_error(queries, 4096, FLOAT32, rng)
    assert error <= 2e-6 * largest


@pytest.mark.parametrize("size", [64, 512, 2048])
def test_float64(size: int, rng: np.random.Generator) -> None:
    error, largest = largest_error(size, size, FLOAT64, rng)
    assert error <= 1e-14 * largest


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16], ids=("float16", "bfloat16"))
@pytest.mark.parametrize("size", [64, 512, 2048])
def test_half_precision(size: int, dtype: Any, rng: np.random.Generator) -> None:
    """One rounding of the output, and the float32 error.

    Weights of bfloat16 may be rounded to it, each by eps / 2 at most and with independent signs. Those of
    random normal queries and keys of 64 features are e^s / sum e^s with s normal: the root of the sum of
    their squares is sqrt(e / n). That many eps / 2 of the values' typical size, 1, and seven deviations of
    1 / sqrt(3), as in tolerance.py.
    """
    error, largest = largest_error(size, size, dtype, rng)
    rounded_weights = 4 * 0.5 * epsilon(dtype) * np.sqrt(np.e / size) if dtype == BFLOAT16 else 0.0
    assert error <= (0.5 * epsilon(dtype) + 2e-6) * largest + rounded_weights
