"""TransformerEncoderLayer and TransformerEncoder against PyTorch."""

from __future__ import annotations

import copy
import functools
import itertools
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from attnlib import nn
from attnlib.nn import one_call
from attnlib.nn.initialisers import constant
from attnlib.nn.module import ArrayParameter

torch = pytest.importorskip("torch")


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
    layer = nn.TransformerEncoderLayer(16, 4, 24, 0.1, batch_first=True, **options)
    oracle = twins(layer, torch.nn.TransformerEncoderLayer(16, 4, 24, 0.1, batch_first=True, **options))
    x = rng.standard_normal((3, 7, 16)).astype(np.float32)
    before = x.copy()
    wide = torch.from_numpy(x).double()
    assert_close(layer(x), oracle(wide))
    assert_close(layer(x[0]), oracle(wide[0]))
    np.testing.assert_array_equal(x, before)
    mask = rng.random((7, 7)) < 0.5
    mask[:, 0] = True
    assert_close(layer(x, mask=mask), oracle(wide, src_mask=torch.from_numpy(~mask)))
    upper = torch.from_numpy(~np.tri(7, dtype=bool))
    assert_close(layer(x, causal=True), oracle(wide, src_mask=upper, is_causal=True))


def test_layer_float64(rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    layer = nn.TransformerEncoderLayer(16, 4, 24, activation="gelu")
    oracle = twins(
        layer, torch.nn.TransformerEncoderLayer(16, 4, 24, activation="gelu", batch_first=True), "float64"
    )
    x = rng.standard_normal((3, 7, 16))
    assert_close(layer(x), oracle(torch.from_numpy(x)), 1e-13)


@pytest.mark.parametrize(("final", "bias"), [(True, True), (False, True), (False, False)])
def test_encoder(final: bool, bias: bool, rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    layer = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(16, 4, 24, bias=bias),
        3,
        norm=nn.LayerNorm(16) if final else None,
        enable_nested_tensor=False,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that nested tensors are a prototype
        oracle = torch.nn.TransformerEncoder(
            torch.nn.TransformerEncoderLayer(16, 4, 24, bias=bias, batch_first=True),
            3,
            norm=torch.nn.LayerNorm(16) if final else None,
            enable_nested_tensor=False,
        )
    oracle = twins(layer, oracle)
    x = rng.standard_normal((3, 7, 16)).astype(np.float32)
    lengths = np.array([7, 2, 5])
    found = layer(x, key_lengths=lengths)
    wanted = oracle(
        torch.from_numpy(x).double(), src_key_padding_mask=torch.from_numpy(np.arange(7) >= lengths[:, None])
    )
    for row, length in enumerate(lengths):
        assert_close(found[row, :length], wanted[row, :length])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("causal", [False, True])
def test_packed_padded_and_alone_give_the_same_bits(
    norm_first: bool, dtype: Any, causal: bool, rng: np.random.Generator
) -> None:
    layer = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(32, 4, 48, activation="gelu", norm_first=norm_first, rng=rng), 2
    ).to(dtype)
    lengths = [1, 17, 40, 3, 3]
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    x = rng.standard_normal((sum(lengths), 32)).astype(dtype)
    padded = np.full((len(lengths), max(lengths), 32), 3, dtype)
    spans = list(itertools.pairwise(cu_seqlens))
    for row, (start, stop) in enumerate(spans):
        padded[row, : stop - start] = x[start:stop]
    packed = layer(x, causal=causal, cu_seqlens=cu_seqlens)
    batch = layer(padded, causal=causal, key_lengths=lengths)
    assert packed.dtype == batch.dtype == dtype
    for row, (start, stop) in enumerate(spans):
        np.testing.assert_array_equal(packed[start:stop], batch[row, : stop - start])
        np.testing.assert_array_equal(packed[start:stop], layer(x[start:stop], causal=causal))


def test_bfloat16_is_near(rng: np.random.Generator, assert_close: Any) -> None:
    layer = nn.TransformerEncoderLayer(32, 4, 48, activation="gelu", rng=rng)
    x = rng.standard_normal((2, 9, 32)).astype(ml_dtypes.bfloat16)
    wanted = layer(x.astype(np.float32))
    found = layer.to("bfloat16")(x)
    # Some ten roundings of relative size 2**-9 lie between.
    assert_close(found, wanted.astype(np.float64), 10 * 2**-9)


def test_parameters_of_mixed_dtypes(rng: np.random.Generator) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, rng=rng)
    state = layer.state_dict()
    layer.load_state_dict({k: v if "norm" in k else v.astype(ml_dtypes.bfloat16) for k, v in state.items()})
    x = rng.standard_normal((2, 3, 8))
    assert layer(x.astype(ml_dtypes.bfloat16)).dtype == np.float32
    assert layer(x.astype(np.float32)).dtype == np.float32
    assert layer(x).dtype == np.float64


def test_layers_begin_as_copies_that_are_independent(rng: np.random.Generator) -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, rng=rng), 2)
    states = [layer.state_dict() for layer in encoder.layers]
    for name, array in states[0].items():
        np.testing.assert_array_equal(array, states[1][name])
    encoder.layers[0].load_state_dict({k: v * 2 for k, v in states[0].items()})
    for name, array in encoder.layers[1].state_dict().items():
        np.testing.assert_array_equal(array, states[1][name])


def test_changes_of_layers_that_have_run(rng: np.random.Generator, tmp_path: Path) -> None:
    """What layers consist of is collected once; whatever changes them must be seen by the next call."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    x = rng.standard_normal((5, 8), dtype=np.float32)

    def layer_by_layer() -> Any:
        result = x
        for layer in encoder.layers:
            # A mask that removes nothing: each layer is called by itself, and nothing is collected.
            result = layer(result[None], mask=np.ones((1, 1, 5, 5), np.bool_))[0]
        return result

    def change_through_a_file() -> None:
        other = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
        other.save_packed(tmp_path / "other")
        encoder.load_packed(tmp_path / "other")

    def draw_anew() -> None:
        encoder.layers[1].linear2.bias.draw_from(lambda rng, shape: np.full(shape, 0.25, np.float32), None)

    def change_list() -> None:
        encoder.layers[1] = copy.deepcopy(encoder.layers[0])

    def change_parameter() -> None:
        encoder.layers[0].linear1.bias.store(rng.standard_normal(16, dtype=np.float32))

    changes: list[Callable[[], object]] = [
        change_through_a_file,
        lambda: encoder.load_state_dict({k: v + np.float32(0.1) for k, v in encoder.state_dict().items()}),
        change_list,
        change_parameter,
        draw_anew,
        lambda: setattr(encoder.layers[1], "activation", "gelu"),
        lambda: setattr(encoder.layers[1].norm2, "eps", 0.5),
        lambda: setattr(encoder.layers[0], "norm_first", True),
        lambda: setattr(encoder.layers[0], "norm1", nn.LayerNorm(8, bias=False)),
        lambda: encoder.to("int8"),
        lambda: encoder.layers.pop(),
    ]
    before = encoder(x)
    np.testing.assert_array_equal(before, layer_by_layer())
    for change in changes:
        change()
        after = encoder(x)
        assert np.any(after != before), change
        np.testing.assert_array_equal(after, layer_by_layer())
        np.testing.assert_array_equal(after, encoder(x))
        before = after


def test_layers_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    parts_of = one_call._encoder_parts
    monkeypatch.setattr(one_call, "_encoder_parts", lambda layer, x: seen.append(layer) or parts_of(layer, x))
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    for _ in range(3):
        encoder(np.zeros((3, 8), np.float32))
    assert seen == encoder.layers
    encoder.layers[0].anything = 1
    encoder(np.zeros((3, 8), np.float32))
    del encoder.layers[0].anything
    encoder(np.zeros((3, 8), np.float32))
    assert seen == 3 * encoder.layers


def test_a_layer_that_changes_while_it_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """As another thread may do it: what was collected before the change is not taken for the next call."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    before = encoder(x)
    encoder.layers[0].norm1.eps = 1e-5  # so that the next call collects
    parts_of = one_call._encoder_parts

    def change_after(layer: Any, x: Any) -> Any:
        parts = parts_of(layer, x)
        if layer is encoder.layers[0]:
            layer.linear1.bias.store(np.ones(16, np.float32))
        return parts

    with monkeypatch.context() as patch:
        patch.setattr(one_call, "_encoder_parts", change_after)
        np.testing.assert_array_equal(encoder(x), before)
    assert np.any(encoder(x) != before)


def test_a_call_while_parameters_are_loaded(rng: np.random.Generator) -> None:
    """As of a signal handler: it sees the old parameters, and the next call the new ones."""
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    x = rng.standard_normal((3, 8), dtype=np.float32)
    before = encoder(x)
    meanwhile: list[Any] = []

    class CallingParameter(ArrayParameter):
        def store(self, array: Any) -> None:
            super().store(array)
            meanwhile.append(encoder(x))

    state = encoder.state_dict()
    last = encoder.layers[-1].norm2
    last.bias = CallingParameter((8,), functools.partial(constant, value=0.0))
    np.testing.assert_array_equal(encoder(x), before)
    encoder.load_state_dict({name: value + np.float32(0.25) for name, value in state.items()})
    after = encoder(x)
    np.testing.assert_array_equal(meanwhile, [before])
    fresh = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    fresh.load_state_dict(encoder.state_dict())
    np.testing.assert_array_equal(after, fresh(x))


def test_layers_and_parameters_that_are_gone_are_freed() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    encoder(np.zeros((3, 8), np.float32))
    old_bias = weakref.ref(encoder.layers[0].linear1.bias.value)
    encoder.to("float64")
    assert old_bias() is None
    encoder(np.zeros((3, 8)))
    first, weight = encoder.layers[0], weakref.ref(encoder.layers[1].norm1.weight.value)
    encoder.layers.pop()
    assert weight() is None
    layer = weakref.ref(first)
    del encoder, first
    assert layer() is None


def test_empty_inputs() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    for shape in ((0, 3, 8), (2, 0, 8)):
        assert layer(np.zeros(shape, np.float32)).shape == shape
    assert layer(np.zeros((0, 8), np.float32), cu_seqlens=np.array([0])).shape == (0, 8)
    x = np.ones((1, 2, 8), np.float32)
    assert nn.TransformerEncoder(layer, 0)(x) is x


def test_refuses() -> None:
    with pytest.raises(ValueError, match=r"^TransformerEncoderLayer: activation must be one of"):
        nn.TransformerEncoderLayer(8, 2, activation="swish")
    with pytest.raises(ValueError, match="batch_first=False"):
        nn.TransformerEncoderLayer(8, 2, batch_first=False)
    with pytest.raises(ValueError, match=r"^TransformerEncoder: num_layers must not be negative"):
        nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2), -1)
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    with pytest.raises(ValueError, match=r"query has shape \(3, 7\)"):
        layer(np.zeros((3, 7), np.float32))
    with pytest.raises(ValueError, match="do not go with cu_seqlens"):
        layer(np.zeros((3, 8), np.float32), mask=np.ones((3, 3), bool), cu_seqlens=np.array([0, 3]))
    for tokens in (3, 100):  # in one native call, and layer by layer
        with pytest.raises(TypeError):
            layer(np.zeros((1, tokens, 8), np.float32), causal="no")  # type: ignore[arg-type]
        assert layer(np.zeros((1, tokens, 8), np.float32), causal=np.True_).shape == (1, tokens, 8)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
@pytest.mark.parametrize("layers", [0, 1])
def test_the_other_byte_order(kind: str, layers: int, rng: np.random.Generator) -> None:
    """The result is in the machine's, whatever the layers do or leave undone."""
    stack = getattr(nn, f"Transformer{kind}")(getattr(nn, f"Transformer{kind}Layer")(8, 2, 16), layers)
    x = rng.standard_normal((1, 3, 8)).astype(np.float32)
    rest = [x] if kind == "Decoder" else []
    found = stack(x.astype(x.dtype.newbyteorder()), *rest)
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, stack(x, *rest))


@pytest.mark.parametrize("kind", ["Encoder", "Decoder"])
def test_what_is_no_layer(kind: str) -> None:
    stack, layer = getattr(nn, f"Transformer{kind}"), getattr(nn, f"Transformer{kind}Layer")(4, 2, 8)
    for thing in (None, [], "layer", np.ones(3)):
        with pytest.raises(TypeError, match=f"^Transformer{kind}: {kind.lower()}_layer must be a layer"):
            stack(thing, 2)
    with pytest.raises(TypeError, match=f"^Transformer{kind}: norm must be a layer, got str"):
        stack(layer, 2, "norm")
