"""MultiheadAttention against PyTorch."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attnlib import nn

torch = pytest.importorskip("torch")


def wide(*arrays: NDArray[Any]) -> list[Any]:
    return [torch.from_numpy(a.astype(np.float64)) for a in arrays]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("batch", [(3,), ()])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("float64", 1e-13)])
def test_self_attention(
    bias: bool,
    heads: int,
    batch: tuple[int, ...],
    dtype: Any,
    tolerance: float,
    rng: np.random.Generator,
    twins: Any,
    assert_close: Any,
) -> None:
    layer = nn.MultiheadAttention(16, heads, bias=bias)
    oracle = twins(layer, torch.nn.MultiheadAttention(16, heads, bias=bias, batch_first=True), dtype)
    x = rng.standard_normal((*batch, 7, 16)).astype(dtype)
    wanted, weights = oracle(*wide(x, x, x), average_attn_weights=False)
    found, found_weights = layer(x, need_weights=True)
    assert_close(found, wanted, tolerance)
    assert_close(found_weights, weights, tolerance)
    np.testing.assert_array_equal(layer(x), found)
    np.testing.assert_array_equal(layer(x, x, x), found)


@pytest.mark.parametrize(("kdim", "vdim"), [(None, None), (5, None), (None, 6), (5, 6), (5, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_cross_attention(
    kdim: int | None, vdim: int | None, bias: bool, rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    layer = nn.MultiheadAttention(16, 4, bias=bias, kdim=kdim, vdim=vdim)
    oracle = twins(
        layer, torch.nn.MultiheadAttention(16, 4, bias=bias, kdim=kdim, vdim=vdim, batch_first=True)
    )
    query = rng.standard_normal((3, 7, 16)).astype(np.float32)
    key = rng.standard_normal((3, 9, kdim or 16)).astype(np.float32)
    value = rng.standard_normal((3, 9, vdim or 16)).astype(np.float32)
    wanted, _ = oracle(*wide(query, key, value))
    assert_close(layer(query, key, value), wanted)
    if layer.kdim == layer.vdim:
        wanted, _ = oracle(*wide(query, key, key))
        assert_close(layer(query, key), wanted)
        assert_close(layer(query, key, key), wanted)


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "int8", "int4"])
def test_cutting_the_projection_moves_no_bits(stored: str, rng: np.random.Generator) -> None:
    layer = nn.MultiheadAttention(16, 4, rng=rng).to(stored)
    state = layer.state_dict()
    x = rng.standard_normal((2, 7, 16)).astype(np.float32)
    fused = layer(x)
    for arguments in ((x, x.copy()), (x, x.copy(), x.copy())):
        np.testing.assert_array_equal(layer(*arguments), fused)
        np.testing.assert_array_equal(layer(x), fused)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    np.testing.assert_array_equal(layer.to("float64")(x).dtype, np.float64)


def test_masks(rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    layer = nn.MultiheadAttention(16, 4)
    oracle = twins(layer, torch.nn.MultiheadAttention(16, 4, batch_first=True))
    x = rng.standard_normal((3, 7, 16)).astype(np.float32)
    mask = rng.random((3, 4, 7, 7)) < 0.5
    mask[..., 0] = True
    wanted, _ = oracle(*wide(x, x, x), attn_mask=torch.from_numpy(~mask.reshape(12, 7, 7)))
    assert_close(layer(x, mask=mask), wanted)
    one = mask[0, 0]
    wanted, _ = oracle(*wide(x, x, x), attn_mask=torch.from_numpy(~one))
    assert_close(layer(x, mask=one), wanted)
    lower = torch.from_numpy(~np.tri(7, dtype=bool))
    wanted, _ = oracle(*wide(x, x, x), attn_mask=lower)
    assert_close(layer(x, causal=True), wanted)
    lengths = np.array([7, 1, 4])
    padding = torch.from_numpy(np.arange(7) >= lengths[:, None])
    wanted, _ = oracle(*wide(x, x, x), key_padding_mask=padding)
    assert_close(layer(x, key_lengths=lengths), wanted)
    # With padding, query i of self-attention still stands at place i.
    wanted, _ = oracle(*wide(x, x, x), key_padding_mask=padding, attn_mask=lower)
    assert_close(layer(x, causal=True, key_lengths=lengths), wanted)
    # Whatever the one object is.
    for same in (x.tolist(), torch.from_numpy(x)):
        assert_close(layer(same, same, same, causal=True, key_lengths=lengths), wanted)


def test_bias(rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    layer = nn.MultiheadAttention(16, 4)
    oracle = twins(layer, torch.nn.MultiheadAttention(16, 4, batch_first=True))
    x = rng.standard_normal((3, 7, 16)).astype(np.float32)
    bias = rng.standard_normal((3, 4, 7, 7)).astype(np.float32)
    wanted, _ = oracle(*wide(x, x, x), attn_mask=torch.from_numpy(bias.reshape(12, 7, 7)).double())
    assert_close(layer(x, bias=bias), wanted)


def test_causal_cross_attention_ends_at_the_last_key(
    rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    layer = nn.MultiheadAttention(16, 4)
    oracle = twins(layer, torch.nn.MultiheadAttention(16, 4, batch_first=True))
    query = rng.standard_normal((1, 3, 16)).astype(np.float32)
    key = rng.standard_normal((1, 5, 16)).astype(np.float32)
    allowed = np.tri(3, 5, 2, dtype=bool)
    wanted, _ = oracle(*wide(query, key, key), attn_mask=torch.from_numpy(~allowed))
    assert_close(layer(query, key, causal=True), wanted)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_packed_sequences_have_the_bits_of_padded_ones(
    causal: bool, biased: bool, rng: np.random.Generator
) -> None:
    layer = nn.MultiheadAttention(16, 4, rng=rng)
    lengths = [5, 1, 0, 33, 7, 7, 7]
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])
    x = rng.standard_normal((sum(lengths), 16)).astype(np.float32)
    padded = rng.standard_normal((len(lengths), max(lengths), 16)).astype(np.float32)
    for row, (start, stop) in enumerate(itertools.pairwise(cu_seqlens)):
        padded[row, : stop - start] = x[start:stop]
    bias = rng.standard_normal((4, 33, 33)).astype(np.float32) if biased else None
    packed = layer(x, bias=bias, causal=causal, cu_seqlens=cu_seqlens, residual=x)
    batch = layer(padded, bias=bias, causal=causal, key_lengths=lengths, residual=padded)
    for row, (start, stop) in enumerate(itertools.pairwise(cu_seqlens)):
        np.testing.assert_array_equal(packed[start:stop], batch[row, : stop - start])


def test_empty_inputs() -> None:
    layer = nn.MultiheadAttention(8, 2)
    for shape in ((0, 3, 8), (2, 0, 8), (0, 8)):
        assert layer(np.zeros(shape, np.float32)).shape == shape
    assert nn.MultiheadAttention(0, 1)(np.zeros((2, 3, 0), np.float32)).shape == (2, 3, 0)


def test_refuses() -> None:
    with pytest.raises(
        ValueError, match=r"^MultiheadAttention: embed_dim 8 is not a multiple of num_heads 3"
    ):
        nn.MultiheadAttention(8, 3)
    with pytest.raises(ValueError, match="num_heads 0"):
        nn.MultiheadAttention(8, 0)
    with pytest.raises(ValueError, match="batch_first=False"):
        nn.MultiheadAttention(8, 2, batch_first=False)
    layer = nn.MultiheadAttention(8, 2)
    x = np.zeros((2, 3, 8), np.float32)
    with pytest.raises(ValueError, match=r"^MultiheadAttention: query has shape \(2, 3, 4\)"):
        layer(x[..., :4], x)
    with pytest.raises(ValueError, match=r"^MultiheadAttention: key has shape \(8,\)"):
        layer(x, x[0, 0])
    with pytest.raises(ValueError, match="value is given without key"):
        layer(x, None, x)
    with pytest.raises(ValueError, match="cu_seqlens goes with self-attention"):
        layer(x, cu_seqlens=np.array([0, 3]))
    with pytest.raises(ValueError, match="do not go with cu_seqlens"):
        layer(x[0], cu_seqlens=np.array([0, 3]), key_lengths=[3])
    for offsets in ([], [0], [0, 4], [1, 3], [0, 2, 1, 3], [[0, 3]]):
        for bias in (None, np.zeros((2, 4, 4), np.float32)):
            with pytest.raises((TypeError, ValueError), match="cu_seqlens"):
                layer(x[0], cu_seqlens=np.array(offsets), bias=bias)
    with pytest.raises(ValueError, match="bias"):
        layer(x[0], cu_seqlens=np.array([0, 3]), bias=np.zeros((2, 2, 2), np.float32))
    with pytest.raises(TypeError, match="mask"):
        layer(x, mask=np.zeros((3, 3), np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="key_lengths"):
        layer(x, key_lengths=[4, 1])
    with pytest.raises(TypeError, match="int64"):
        layer(np.zeros((2, 3, 8), np.int64))
    with pytest.raises(TypeError, match=r"[Mm]asked"):
        layer(np.ma.masked_array(x, x == 0))
