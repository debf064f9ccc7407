"""Tables and layouts of a decoder's step: rows picked for each sequence, dtypes, caches within one array."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnlib as al
from attnlib.functional import cached_attention
from attnlib.nn import KVCache


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("storage", ["float32", "int8"])
def test_rows_picked_for_each_sequence(batch: int, storage: str, rng: np.random.Generator) -> None:
    """(B, S, R / 2), also one for all sequences, gives the bits of positions in a table."""
    cos, sin = rng.standard_normal((2, 20, 3)).astype(np.float32)
    positions = rng.integers(0, 20, (batch, 4))
    query = rng.standard_normal((2, 4, 4, 8), np.float32)
    key = rng.standard_normal((2, 2, 4, 8), np.float32)
    one, other = (KVCache(1, 2, 2, 8, dtype=storage) for _ in range(2))
    found = one.attend(0, query, key, key, cos=cos[positions], sin=sin[positions])
    wanted = other.attend(0, query, key, key, cos=cos, sin=sin, positions=positions)
    np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(one.read(0)[0], other.read(0)[0])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_tables_are_cast_to_the_dtype_of_the_tokens(dtype: Any, rng: np.random.Generator) -> None:
    cos, sin = rng.standard_normal((2, 9, 4))
    tokens = rng.standard_normal((1, 2, 3, 8)).astype(dtype)
    caches = np.zeros((2, 1, 2, 5, 8), dtype)
    found = cached_attention(tokens, tokens, tokens, *caches, [0], cos=cos, sin=sin)
    assert found.dtype == dtype
    turned = al.rotary_embedding(tokens, cos.astype(dtype), sin.astype(dtype))
    np.testing.assert_array_equal(caches[0][:, :, :3], turned)


def test_caches_may_lie_between_each_other(rng: np.random.Generator) -> None:
    tokens = rng.standard_normal((3, 1, 2, 3, 8), np.float32)
    mixed = np.zeros((1, 2, 5, 2, 8), np.float32)
    apart = np.zeros((2, 1, 2, 5, 8), np.float32)
    found = cached_attention(*tokens, mixed[:, :, :, 0], mixed[:, :, :, 1], [1])
    np.testing.assert_array_equal(found, cached_attention(*tokens, *apart, [1]))
    np.testing.assert_array_equal(mixed[:, :, :, 1], apart[1])


def test_float64_storage(rng: np.random.Generator) -> None:
    cache = KVCache(1, 1, 2, 8, dtype="float64")
    tokens = rng.standard_normal((1, 2, 3, 8))
    found = cache.attend(0, tokens, tokens, tokens)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, al.attention(tokens, tokens, tokens, causal=True).swapaxes(1, 2))
