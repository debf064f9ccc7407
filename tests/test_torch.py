"""The same operations in PyTorch, where it has them (its float64 on CPU)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import accumulator, epsilon, normal
from attention_check import make_qkv

import attnlib as al

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
F = torch.nn.functional

by_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=("float32", "float64"))


def tensor(x: Any) -> Any:
    return None if x is None else torch.from_numpy(np.asarray(x, np.float64) if x.dtype != bool else x)


def assert_agrees(result: np.ndarray, expected: Any, eps_count: float = 64.0) -> None:
    expected = expected.numpy()
    assert result.shape == expected.shape
    largest = np.max(np.abs(expected), initial=0.0)
    error = np.max(np.abs(result.astype(np.float64) - expected), initial=0.0)
    assert error <= eps_count * epsilon(accumulator(result.dtype)) * largest


@by_dtype
@pytest.mark.parametrize("groups", [4, 2, 1])
def test_scaled_dot_product_attention(groups: int, dtype: Any, rng: np.random.Generator) -> None:
    query, key, value = make_qkv(rng, (2,), 4, groups, 40, 40, 16, dtype=dtype)
    q, k, v = map(tensor, (query, key, value))
    mask, bias = rng.random((2, 1, 40, 40)) < 0.7, normal(rng, (4, 40, 40), dtype)
    mask |= np.eye(40, dtype=bool)
    arrays = query, key, value
    gqa = {"enable_gqa": groups != 4}
    assert_agrees(al.attention(*arrays), F.scaled_dot_product_attention(q, k, v, **gqa))
    assert_agrees(
        al.attention(*arrays, causal=True), F.scaled_dot_product_attention(q, k, v, is_causal=True, **gqa)
    )
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=tensor(mask), scale=0.3, **gqa)
    assert_agrees(al.attention(*arrays, mask=mask, scale=0.3), expected)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=tensor(bias), **gqa)
    assert_agrees(al.attention(*arrays, bias=bias), expected)


@by_dtype
def test_norms(dtype: Any, rng: np.random.Generator) -> None:
    x, weight, bias = normal(rng, (7, 96), dtype), normal(rng, (96,), dtype), normal(rng, (96,), dtype)
    expected = F.layer_norm(tensor(x), (96,), tensor(weight), tensor(bias), 1e-6)
    assert_agrees(al.layer_norm(x, weight, bias, eps=1e-6), expected)
    assert_agrees(al.rms_norm(x, weight, eps=1e-6), F.rms_norm(tensor(x), (96,), tensor(weight), 1e-6))


@by_dtype
def test_activations(dtype: Any, rng: np.random.Generator) -> None:
    x = normal(rng, (7, 96), dtype, 3.0)
    for name, theirs in (
        ("relu", F.relu),
        ("silu", F.silu),
        ("tanh", torch.tanh),
        ("sigmoid", torch.sigmoid),
    ):
        assert_agrees(getattr(al, name)(x), theirs(tensor(x)))
    for form in ("none", "tanh"):
        assert_agrees(al.gelu(x, form), F.gelu(tensor(x), approximate=form))


@by_dtype
def test_softmax(dtype: Any, rng: np.random.Generator) -> None:
    x = normal(rng, (5, 6, 70), dtype, 3.0)
    for axis in (-1, 0, 1):
        assert_agrees(al.softmax(x, axis), F.softmax(tensor(x), axis))
        assert_agrees(al.log_softmax(x, axis), F.log_softmax(tensor(x), axis))


@by_dtype
def test_linear(dtype: Any, rng: np.random.Generator) -> None:
    x, weight, bias = (
        normal(rng, (3, 7, 96), dtype),
        normal(rng, (50, 96), dtype, 0.1),
        normal(rng, (50,), dtype),
    )
    expected = F.gelu(F.linear(tensor(x), tensor(weight), tensor(bias)))
    for given in (weight, al.pack_weight(weight)):
        assert_agrees(al.linear(x, given, bias, activation="gelu"), expected)
