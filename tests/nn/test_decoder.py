"""TransformerDecoderLayer and TransformerDecoder against PyTorch."""

from __future__ import annotations

import pickle
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnlib as al
from attnlib import nn

torch = pytest.importorskip("torch")


def removed(lengths: Any, longest: int) -> Any:
    """PyTorch's mask of padding, in which True is what nobody may attend to."""
    return torch.from_numpy(np.arange(longest) >= np.asarray(lengths)[:, None])


def random_mask(rng: np.random.Generator, *shape: int) -> Any:
    """Make a mask in which every query may attend to something, the first token among it."""
    mask = rng.random(shape) < 0.5
    mask[..., 0] = True
    return mask


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 1e-1])
def test_layer(
    norm_first: bool,
    activation: str,
    bias: bool,
    eps: Any,
    rng: np.random.Generator,
    twins: Any,
    assert_close: Any,
) -> None:
    options = {"activation": activation, "layer_norm_eps": eps, "norm_first": norm_first, "bias": bias}
    layer = nn.TransformerDecoderLayer(16, 4, 24, 0.1, batch_first=True, **options)
    oracle = twins(layer, torch.nn.TransformerDecoderLayer(16, 4, 24, 0.1, batch_first=True, **options))
    tgt = rng.standard_normal((3, 7, 16)).astype(np.float32)
    memory = rng.standard_normal((3, 9, 16)).astype(np.float32)
    before = tgt.copy(), memory.copy()
    wide_tgt, wide_memory = torch.from_numpy(tgt).double(), torch.from_numpy(memory).double()
    upper = torch.from_numpy(~np.tri(7, dtype=bool))

    assert_close(layer(tgt, memory), oracle(wide_tgt, wide_memory, tgt_mask=upper))
    assert_close(layer(tgt[0], memory[0]), oracle(wide_tgt[0], wide_memory[0], tgt_mask=upper))
    assert_close(layer(tgt, memory, causal=False), oracle(wide_tgt, wide_memory))

    mask, memory_mask = random_mask(rng, 7, 7), random_mask(rng, 7, 9)
    masks = {"mask": mask, "memory_mask": memory_mask}
    absent = torch.from_numpy(~memory_mask)
    assert_close(
        layer(tgt, memory, **masks),
        oracle(wide_tgt, wide_memory, tgt_mask=torch.from_numpy(~mask) | upper, memory_mask=absent),
    )
    assert_close(
        layer(tgt, memory, causal=False, **masks),
        oracle(wide_tgt, wide_memory, tgt_mask=torch.from_numpy(~mask), memory_mask=absent),
    )
    np.testing.assert_array_equal(tgt, before[0])
    np.testing.assert_array_equal(memory, before[1])


@pytest.mark.parametrize("causal", [False, True])
def test_masks_of_each_head(causal: bool, rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    layer = nn.TransformerDecoderLayer(16, 4, 24)
    oracle = twins(layer, torch.nn.TransformerDecoderLayer(16, 4, 24, batch_first=True))
    tgt, memory = (rng.standard_normal((2, n, 16)).astype(np.float32) for n in (5, 6))
    mask, memory_mask = random_mask(rng, 2, 4, 5, 5), random_mask(rng, 2, 4, 5, 6)
    absent = ~mask | (causal & ~np.tri(5, dtype=bool))
    wanted = oracle(
        *(torch.from_numpy(array).double() for array in (tgt, memory)),
        tgt_mask=torch.from_numpy(absent.reshape(8, 5, 5)),
        memory_mask=torch.from_numpy(~memory_mask.reshape(8, 5, 6)),
    )
    assert_close(layer(tgt, memory, causal=causal, mask=mask, memory_mask=memory_mask), wanted)


def test_layer_float64(rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    layer = nn.TransformerDecoderLayer(16, 4, 24, activation="gelu")
    oracle = torch.nn.TransformerDecoderLayer(16, 4, 24, activation="gelu", batch_first=True)
    oracle = twins(layer, oracle, "float64")
    tgt, memory = rng.standard_normal((3, 7, 16)), rng.standard_normal((3, 9, 16))
    wanted = oracle(
        torch.from_numpy(tgt), torch.from_numpy(memory), tgt_mask=torch.from_numpy(~np.tri(7, dtype=bool))
    )
    assert_close(layer(tgt, memory), wanted, 1e-13)


@pytest.mark.parametrize(("final", "bias"), [(True, True), (False, True), (False, False)])
@pytest.mark.parametrize("causal", [False, True])
def test_decoder(
    final: bool, bias: bool, causal: bool, rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    layer = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(16, 4, 24, bias=bias), 3, norm=nn.LayerNorm(16) if final else None
    )
    oracle = torch.nn.TransformerDecoder(
        torch.nn.TransformerDecoderLayer(16, 4, 24, bias=bias, batch_first=True),
        3,
        norm=torch.nn.LayerNorm(16) if final else None,
    )
    oracle = twins(layer, oracle)
    tgt = rng.standard_normal((3, 20, 16)).astype(np.float32)
    memory = rng.standard_normal((3, 70, 16)).astype(np.float32)
    lengths, memory_lengths = np.array([20, 2, 15]), np.array([64, 70, 1])
    found = layer(tgt, memory, causal=causal, tgt_lengths=lengths, memory_lengths=memory_lengths)
    wanted = oracle(
        torch.from_numpy(tgt).double(),
        torch.from_numpy(memory).double(),
        tgt_mask=torch.from_numpy(~np.tri(20, dtype=bool)) if causal else None,
        tgt_key_padding_mask=removed(lengths, 20),
        memory_key_padding_mask=removed(memory_lengths, 70),
    )
    assert np.isfinite(found).all()
    for row, length in enumerate(lengths):
        assert_close(found[row, :length], wanted[row, :length])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_padded_and_alone_give_the_same_bits(
    norm_first: bool, dtype: Any, causal: bool, rng: np.random.Generator
) -> None:
    """On both sides of the lines at which attention takes another plan: 1 and 16 queries, 64 keys."""
    layer = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(32, 4, 48, activation="gelu", norm_first=norm_first, rng=rng), 2
    ).to(dtype)
    lengths = np.array([1, 16, 17, 40, 3, 3, 0, 1, 1])
    memory_lengths = np.array([300, 64, 290, 63, 1, 130, 100, 20, 1])
    tgt = rng.standard_normal((9, 40, 32)).astype(dtype)
    memory = rng.standard_normal((9, 300, 32)).astype(dtype)
    mask = random_mask(rng, 9, 1, 40, 300)
    for masks in ({}, {"memory_mask": mask}):
        options = {"tgt_lengths": lengths, "memory_lengths": memory_lengths, "causal": causal, **masks}
        together = layer(tgt, memory, **options)
        assert together.dtype == dtype
        for threads in (1, 3):
            with al.num_threads(threads):
                np.testing.assert_array_equal(layer(tgt, memory, **options), together)
        for row, (own, read) in enumerate(zip(lengths, memory_lengths, strict=True)):
            cut = {name: array[row, :, :own, :read] for name, array in masks.items()}
            alone = layer(tgt[row, :own], memory[row, :read], causal=causal, **cut)
            np.testing.assert_array_equal(together[row, :own], alone)
            # Without a batch axis there may be padding too.
            whole = {name: array[row] for name, array in masks.items()}
            padded = layer(
                tgt[row], memory[row], causal=causal, tgt_lengths=own, memory_lengths=read, **whole
            )
            np.testing.assert_array_equal(padded[:own], alone)


def test_padding_never_reaches_the_result(rng: np.random.Generator) -> None:
    layer = nn.TransformerDecoderLayer(32, 4, 48, rng=rng)
    tgt = rng.standard_normal((2, 5, 32)).astype(np.float32)
    memory = rng.standard_normal((2, 6, 32)).astype(np.float32)
    lengths = {"tgt_lengths": [5, 3], "memory_lengths": [4, 6]}
    clean = layer(tgt, memory, **lengths)
    tgt[1, 3:], memory[0, 4:] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        dirty = layer(tgt, memory, **lengths)
    np.testing.assert_array_equal(clean[0], dirty[0])
    np.testing.assert_array_equal(clean[1, :3], dirty[1, :3])


def test_later_tokens_do_not_matter(rng: np.random.Generator, assert_close: Any) -> None:
    layer = nn.TransformerDecoder(nn.TransformerDecoderLayer(32, 4, 48, rng=rng), 2)
    tgt = rng.standard_normal((2, 12, 32)).astype(np.float32)
    memory = rng.standard_normal((2, 9, 32)).astype(np.float32)
    whole = layer(tgt, memory)
    # A single query may take another plan of attention: the same but for rounding.
    assert_close(layer(tgt[:, :1], memory), whole[:, :1])
    for step in range(2, 12):
        np.testing.assert_array_equal(whole[:, :step], layer(tgt[:, :step], memory))
    assert (layer(tgt, memory, causal=False)[:, :-1] != whole[:, :-1]).any()


@pytest.mark.parametrize("targets", [6, 20])
def test_one_memory_for_all_targets(targets: int, rng: np.random.Generator) -> None:
    layer = nn.TransformerDecoderLayer(32, 4, 48, rng=rng)
    tgt = rng.standard_normal((3, targets, 32)).astype(np.float32)
    memory = rng.standard_normal((70, 32)).astype(np.float32)
    wanted = layer(tgt, np.stack([memory] * 3), tgt_lengths=[targets, 2, 4])
    np.testing.assert_array_equal(layer(tgt, memory, tgt_lengths=[targets, 2, 4]), wanted)
    np.testing.assert_array_equal(layer(tgt, memory[None], tgt_lengths=[targets, 2, 4]), wanted)


def test_bias_of_self_attention(rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    layer = nn.TransformerDecoderLayer(16, 4, 24)
    oracle = twins(layer, torch.nn.TransformerDecoderLayer(16, 4, 24, batch_first=True))
    tgt, memory = (rng.standard_normal((5, 16)).astype(np.float32) for _ in range(2))
    bias = rng.standard_normal((4, 5, 5)).astype(np.float32)
    wanted = oracle(
        torch.from_numpy(tgt).double(),
        torch.from_numpy(memory).double(),
        tgt_mask=torch.from_numpy(np.where(np.tri(5, dtype=bool), bias, -np.inf)).double(),
    )
    assert_close(layer(tgt, memory, bias=bias), wanted)


def test_bfloat16_is_near(rng: np.random.Generator, assert_close: Any) -> None:
    layer = nn.TransformerDecoderLayer(32, 4, 48, activation="gelu", rng=rng)
    tgt, memory = (rng.standard_normal((2, n, 32)).astype(ml_dtypes.bfloat16) for n in (9, 11))
    wanted = layer(tgt.astype(np.float32), memory.astype(np.float32))
    found = layer.to("bfloat16")(tgt, memory)
    assert found.dtype == ml_dtypes.bfloat16
    # Some fifteen roundings of relative size 2**-9 lie between.
    assert_close(found, wanted.astype(np.float64), 15 * 2**-9)


@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_quantised(stored: str, rng: np.random.Generator) -> None:
    layer = nn.TransformerDecoderLayer(64, 4, 128, activation="gelu", rng=rng)
    tgt, memory = (rng.standard_normal((2, n, 64)).astype(np.float32) for n in (9, 11))
    expected, state = layer(tgt, memory), layer.state_dict()
    found = layer.to(stored)(tgt, memory)
    assert found.dtype == np.float32
    # After the norm an element is of size 1; eight bits leave a hundredth, four a tenth.
    assert 0 < np.sqrt(np.mean((found - expected) ** 2)) <= (0.02 if stored == "int8" else 0.2)
    late = nn.TransformerDecoderLayer(64, 4, 128, activation="gelu").to(stored)
    late.load_state_dict(state)
    np.testing.assert_array_equal(late(tgt, memory), found)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(tgt, memory), found)


def test_layers_begin_as_copies_that_are_independent(rng: np.random.Generator) -> None:
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16, rng=rng), 2)
    states = [layer.state_dict() for layer in decoder.layers]
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
    decoder.layers[0].load_state_dict({k: v * 2 for k, v in states[0].items()})
    for name, array in decoder.layers[1].state_dict().items():
        np.testing.assert_array_equal(array, states[1][name])


def test_empty_inputs() -> None:
    layer = nn.TransformerDecoderLayer(8, 2, 16)
    for batch, length, read in ((0, 3, 4), (0, 20, 70), (2, 0, 4), (2, 3, 0)):
        tgt, memory = np.zeros((batch, length, 8), np.float32), np.zeros((batch, read, 8), np.float32)
        assert layer(tgt, memory, tgt_lengths=[0] * batch).shape == tgt.shape
    assert nn.TransformerDecoder(layer, 0)(tgt, memory) is tgt


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"^TransformerDecoderLayer: activation must be one of"):
        nn.TransformerDecoderLayer(8, 2, activation="swish")
    with pytest.raises(ValueError, match="batch_first=False"):
        nn.TransformerDecoderLayer(8, 2, batch_first=False)
    with pytest.raises(ValueError, match=r"^TransformerDecoder: num_layers must not be negative"):
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2), -1)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"tgt": (2, 3, 7)}, ValueError, r"tgt has shape \(2, 3, 7\), expected \(B, S, 8\)"),
        ({"tgt": (8,)}, ValueError, r"tgt has shape \(8,\)"),
        ({"memory": (2, 5, 9)}, ValueError, r"memory has shape \(2, 5, 9\)"),
        ({"memory": (3, 5, 8)}, ValueError, r"memory of shape \(3, 5, 8\) does not go with tgt"),
        ({"tgt": (3, 8)}, ValueError, r"memory of shape \(2, 5, 8\) does not go with tgt"),
        ({"tgt_lengths": [1, 4]}, ValueError, "tgt_lengths holds 4, but a sequence has 0 to 3 tokens"),
        ({"tgt_lengths": [1, 2, 3]}, ValueError, r"tgt_lengths has shape \(3,\), expected \(2,\)"),
        ({"memory_lengths": [-1, 4]}, ValueError, "memory_lengths holds -1"),
        ({"memory_lengths": [1.0, 2.0]}, TypeError, "memory_lengths must hold integers, got float64"),
        ({"mask": np.ones((3, 3))}, TypeError, "mask must be bool"),
        ({"mask": np.ones((3, 4), bool)}, ValueError, r"mask has shape \(3, 4\)"),
        ({"memory_mask": np.ones((3, 5), np.int8)}, TypeError, "memory_mask must be bool"),
        ({"memory_mask": np.ones((3, 3), bool)}, ValueError, r"memory_mask has shape \(3, 3\)"),
        ({"memory_mask": np.ones((9, 2, 2, 3, 5), bool)}, ValueError, r"memory_mask has shape"),
    ],
)
def test_names_the_argument(changed: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"tgt": (2, 3, 8), "memory": (2, 5, 8)} | changed
    for name in ("tgt", "memory"):
        arguments[name] = np.zeros(arguments[name], np.float32)
    with pytest.raises(error, match="^TransformerDecoderLayer: " + message):
        nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1)(**arguments)
