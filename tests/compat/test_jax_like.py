"""jax_like against JAX where it is installed, and by itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from arrays import normal

from attnlib.compat import jax_like

attention = jax_like.dot_product_attention
EPS_FLOAT32 = float(np.finfo(np.float32).eps)


def random_case(rng: np.random.Generator) -> tuple[tuple[np.ndarray, ...], dict[str, Any]]:
    batch, groups, repeats = (int(n) for n in rng.integers(1, 4, 3))
    queries, keys, size = (int(n) for n in rng.integers(1, 30, 3))
    heads = groups * repeats
    arrays = (
        normal(rng, (batch, queries, heads, size), np.float32),
        normal(rng, (batch, keys, groups, size), np.float32),
        normal(rng, (batch, keys, groups, size), np.float32),
    )
    options: dict[str, Any] = {"is_causal": bool(rng.random() < 0.4)}
    if rng.random() < 0.4:
        options["scale"] = float(rng.uniform(0.05, 1.0))
    if rng.random() < 0.4:
        options["bias"] = normal(rng, (1, heads, queries, keys), np.float32)
    if rng.random() < 0.3:
        # Key 0 is left to all: a query without keys is where the two differ.
        options["mask"] = rng.random((batch, 1, queries, keys)) < 0.6
        options["mask"][..., 0] = True
    elif rng.random() < 0.4:
        options["local_window_size"] = (queries + int(rng.integers(3)), int(rng.integers(4)))
    if rng.random() < 0.4:
        options["query_seq_lengths"] = rng.integers(1, queries + 1, batch).astype(np.int32)
    if rng.random() < 0.4:
        options["key_value_seq_lengths"] = rng.integers(1, keys + 1, batch).astype(np.int32)
    return arrays, options


@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_jax(seed: int) -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    arrays, options = random_case(np.random.default_rng(seed))
    with jax.default_matmul_precision("highest"):
        expected, residual = jax.nn.dot_product_attention(*arrays, **options, return_residual=True)
    out, own_residual = attention(*arrays, **options, return_residual=True)
    tensors = [jax.numpy.asarray(array) for array in arrays]
    assert attention(*tensors, **options).tobytes() == np.ascontiguousarray(out).tobytes()
    bound = 64 * EPS_FLOAT32 * math.sqrt(arrays[0].shape[-1]) * max(1.0, float(np.abs(arrays[2]).max()))
    assert out.shape == expected.shape
    assert np.abs(out - np.asarray(expected)).max() <= bound
    lengths = options.get("query_seq_lengths", np.full(len(out), out.shape[1]))
    valid = np.arange(out.shape[1]) < lengths[:, None]
    assert own_residual.shape == residual.shape
    assert np.abs(own_residual - np.asarray(residual))[valid].max() <= 4 * bound


def test_layouts_and_alignment(rng: np.random.Generator) -> None:
    query, key = normal(rng, (3, 4, 8), np.float64), normal(rng, (5, 2, 8), np.float64)
    out, residual = attention(query, key, key, is_causal=True, return_residual=True)
    assert out.shape == (3, 4, 8)
    assert residual.shape == (3, 4)
    np.testing.assert_allclose(out[0], np.repeat(key[0], 2, axis=0))  # query 0 sees key 0 alone
    batched = attention(query[None], key[None], key[None], query_seq_lengths=[2], local_window_size=0)
    np.testing.assert_allclose(batched[0, 1], np.repeat(key[1], 2, axis=0))
    assert not batched[0, 2].any()


def test_refusals() -> None:
    x = np.zeros((1, 3, 4, 2), np.float32)
    with pytest.raises(NotImplementedError, match=r"implementation.*cudnn"):
        attention(x, x, x, implementation="cudnn")
    with pytest.raises(ValueError, match="query must have 3 or 4 axes"):
        attention(x[0, 0], x, x)
    with pytest.raises(ValueError, match="must agree"):
        attention(x, x, x[:, :2])
    with pytest.raises(ValueError, match=r"query_seq_lengths must have shape \(1,\)"):
        attention(x, x, x, query_seq_lengths=[1, 2])
