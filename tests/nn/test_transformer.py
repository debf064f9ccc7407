"""Transformer against PyTorch."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnlib as al
from attnlib import nn

torch = pytest.importorskip("torch")


def make_oracle(*sizes: int, **options: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nested tensors do not go with some options
        oracle = torch.nn.Transformer(*sizes, batch_first=True, **options)
    oracle.encoder.enable_nested_tensor = False
    return oracle


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
def test_transformer(
    norm_first: bool, activation: str, bias: bool, rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    options = {"activation": activation, "norm_first": norm_first, "bias": bias, "layer_norm_eps": 1e-3}
    model = nn.Transformer(16, 4, 2, 3, 24, **options)
    oracle = twins(model, make_oracle(16, 4, 2, 3, 24, **options))
    src, tgt = (rng.standard_normal((3, n, 16)).astype(np.float32) for n in (9, 7))
    wide_src, wide_tgt = torch.from_numpy(src).double(), torch.from_numpy(tgt).double()
    upper = torch.from_numpy(~np.tri(7, dtype=bool))
    assert_close(model(src, tgt), oracle(wide_src, wide_tgt, tgt_mask=upper))
    assert_close(model(src[0], tgt[0]), oracle(wide_src[0], wide_tgt[0], tgt_mask=upper))
    assert_close(model(src, tgt, causal=False), oracle(wide_src, wide_tgt))
    masks = {
        name: rng.random((rows, columns)) < 0.5
        for name, rows, columns in (("src_mask", 9, 9), ("mask", 7, 7), ("memory_mask", 7, 9))
    }
    for mask in masks.values():
        mask[:, 0] = True
    absent = {name: torch.from_numpy(~mask) for name, mask in masks.items()}
    absent["tgt_mask"] = absent.pop("mask") | upper
    assert_close(model(src, tgt, **masks), oracle(wide_src, wide_tgt, **absent))


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-6), ("float64", 1e-13)])
@pytest.mark.parametrize("causal", [False, True])
def test_lengths(
    dtype: str, tolerance: float, causal: bool, rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    model = nn.Transformer(16, 4, 2, 2, 24)
    oracle = twins(model, make_oracle(16, 4, 2, 2, 24), dtype)
    src, tgt = (rng.standard_normal((3, n, 16)).astype(dtype) for n in (9, 7))
    src_lengths, tgt_lengths = np.array([9, 1, 5]), np.array([3, 7, 6])
    padding, tgt_padding = (
        torch.from_numpy(np.arange(n) >= lengths[:, None])
        for n, lengths in ((9, src_lengths), (7, tgt_lengths))
    )
    wanted = oracle(
        torch.from_numpy(src).double(),
        torch.from_numpy(tgt).double(),
        tgt_mask=torch.from_numpy(~np.tri(7, dtype=bool)) if causal else None,
        src_key_padding_mask=padding,
        tgt_key_padding_mask=tgt_padding,
        memory_key_padding_mask=padding,
    )
    found = model(src, tgt, causal=causal, src_lengths=src_lengths, tgt_lengths=tgt_lengths)
    assert found.dtype == dtype
    for row, length in enumerate(tgt_lengths):
        assert_close(found[row, :length], wanted[row, :length], tolerance)
    same = model(
        src,
        tgt,
        causal=causal,
        src_lengths=src_lengths,
        tgt_lengths=tgt_lengths,
        memory_lengths=src_lengths,
    )
    np.testing.assert_array_equal(same, found)
    fewer = model(src, tgt, causal=causal, src_lengths=src_lengths, memory_lengths=[1, 1, 1])
    assert (fewer[0] != found[0]).any()


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("stored", ["float32", "bfloat16", "int8"])
def test_padded_and_alone_give_the_same_bits(norm_first: bool, stored: str, rng: np.random.Generator) -> None:
    model = nn.Transformer(32, 4, 1, 2, 48, norm_first=norm_first, rng=rng).to(stored)
    dtype = ml_dtypes.bfloat16 if stored == "bfloat16" else np.float32
    src, tgt = (rng.standard_normal((4, n, 32)).astype(dtype) for n in (90, 30))
    src_lengths, tgt_lengths = [90, 64, 63, 1], [5, 16, 17, 30]
    together = model(src, tgt, src_lengths=src_lengths, tgt_lengths=tgt_lengths)
    assert together.dtype == dtype
    for threads in (1, 3):
        with al.num_threads(threads):
            again = model(src, tgt, src_lengths=src_lengths, tgt_lengths=tgt_lengths)
        np.testing.assert_array_equal(together, again)
    for row, (read, own) in enumerate(zip(src_lengths, tgt_lengths, strict=True)):
        alone = model(src[row, :read], tgt[row, :own])
        np.testing.assert_array_equal(together[row, :own], alone)


def test_it_is_its_encoder_and_decoder(rng: np.random.Generator) -> None:
    model = nn.Transformer(16, 4, 1, 1, 24, rng=rng)
    src, tgt = (rng.standard_normal((2, n, 16)).astype(np.float32) for n in (9, 7))
    np.testing.assert_array_equal(model(src, tgt), model.decoder(tgt, model.encoder(src)))
    one = model(src[0], tgt, src_lengths=4)
    np.testing.assert_array_equal(one, model(np.stack([src[0]] * 2), tgt, src_lengths=[4, 4]))
    np.testing.assert_array_equal(one, model(src[:1], tgt, src_lengths=[4]))


def test_custom_stacks_are_taken_as_they_are(rng: np.random.Generator) -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 24, rng=rng), 1)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 24, rng=rng), 1)
    before = encoder.state_dict() | decoder.state_dict()
    model = nn.Transformer(16, 4, custom_encoder=encoder, custom_decoder=decoder, rng=rng)
    assert model.encoder is encoder
    assert model.decoder is decoder
    for name, array in (encoder.state_dict() | decoder.state_dict()).items():
        np.testing.assert_array_equal(array, before[name])


def test_initial_parameters(rng: np.random.Generator) -> None:
    """Xavier-uniform weights, every layer with its own, from the generator alone."""
    first, second = (nn.Transformer(32, 4, 2, 2, 64, rng=np.random.default_rng(3)) for _ in range(2))
    state = first.state_dict()
    for name, array in second.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
    for state in (first.state_dict(), nn.Transformer(32, 4, 2, 2, 64).state_dict()):
        for name, array in state.items():
            if array.ndim == 2:
                bound = np.sqrt(6 / sum(array.shape))
                assert 0.9 * bound < np.abs(array).max() <= bound * (1 + 1e-6)
                assert (array != state[name.replace("layers.0", "layers.1")]).any() or "layers.1" in name


def test_names_are_those_of_torch() -> None:
    for options in ({}, {"bias": False}, {"norm_first": True}):
        ours = nn.Transformer(16, 4, 2, 1, 24, **options).state_dict()
        theirs = make_oracle(16, 4, 2, 1, 24, **options).state_dict()
        assert {k: v.shape for k, v in ours.items()} == {k: tuple(v.shape) for k, v in theirs.items()}
    model = nn.Transformer(num_encoder_layers=1, num_decoder_layers=1)
    assert (model.d_model, model.nhead, model.encoder.layers[0].linear1.out_features) == (512, 8, 2048)


@pytest.mark.parametrize("stored", ["bfloat16", "int8"])
def test_narrow_formats_are_near(stored: str, rng: np.random.Generator, assert_close: Any) -> None:
    model = nn.Transformer(64, 4, 2, 2, 128, activation="gelu", rng=rng)
    src, tgt = (rng.standard_normal((2, n, 64)).astype(ml_dtypes.bfloat16) for n in (9, 7))
    wanted = model(src.astype(np.float32), tgt.astype(np.float32))
    dtype = ml_dtypes.bfloat16 if stored == "bfloat16" else np.float32
    found = model.to(stored)(src.astype(dtype), tgt.astype(dtype))
    assert found.dtype == dtype
    if stored == "bfloat16":
        # Some ten roundings of relative size 2**-9 for a layer of the encoder, fifteen for the decoder.
        assert_close(found, wanted.astype(np.float64), 50 * 2**-9)
    else:
        assert 0 < np.sqrt(np.mean((found - wanted) ** 2)) <= 0.04
    copy = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copy(src.astype(dtype), tgt.astype(dtype)), found)


def test_empty_inputs() -> None:
    model = nn.Transformer(8, 2, 1, 1, 16)
    for batch, read, length in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
        src, tgt = np.zeros((batch, read, 8), np.float32), np.zeros((batch, length, 8), np.float32)
        assert model(src, tgt).shape == tgt.shape


def test_refuses() -> None:
    with pytest.raises(ValueError, match="activation must be one of"):
        nn.Transformer(8, 2, activation="swish")
    with pytest.raises(ValueError, match="batch_first=False"):
        nn.Transformer(8, 2, batch_first=False)
    with pytest.raises(ValueError, match="num_layers must not be negative"):
        nn.Transformer(8, 2, num_decoder_layers=-1)
    model = nn.Transformer(8, 2, 1, 1, 16)
    src, tgt = np.zeros((2, 5, 8), np.float32), np.zeros((2, 3, 8), np.float32)
    with pytest.raises(ValueError, match=r"^Transformer: src has shape \(2, 5, 7\)"):
        model(src[..., :7], tgt)
    with pytest.raises(ValueError, match=r"^Transformer: tgt has shape \(2, 3, 7\)"):
        model(src, tgt[..., :7])
    with pytest.raises(ValueError, match=r"^Transformer: src of shape \(2, 5, 8\) does not go with tgt"):
        model(src, tgt[0])
    with pytest.raises(ValueError, match=r"^Transformer: src_lengths holds 6"):
        model(src, tgt, src_lengths=[6, 1])
    with pytest.raises(TypeError, match=r"^Transformer: src_mask must be bool"):
        model(src, tgt, src_mask=np.zeros((5, 5)))
    with pytest.raises(ValueError, match=r"memory_lengths holds 6"):
        model(src, tgt, memory_lengths=[6, 1])
    with pytest.raises(ValueError, match=r"tgt_lengths has shape \(1, 2\)"):
        model(src, tgt, tgt_lengths=[[1, 2]])
