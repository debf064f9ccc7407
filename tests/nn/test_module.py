"""Loading, saving and converting parameters."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from attnlib import nn
from attnlib.nn.in_projection import InProjectionParameter


def test_refuses_missing_unexpected_and_misshapen_naming_each() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    state = layer.state_dict()
    del state["linear1.bias"], state["norm2.weight"]
    state["extra"] = np.zeros(3, np.float32)
    state["another.extra"] = np.zeros(3, np.float32)
    state["linear2.weight"] = np.zeros((16, 8), np.float32)
    state["norm1.bias"] = np.zeros((), np.float32)
    with pytest.raises(ValueError, match=r"^TransformerEncoderLayer\.load_state_dict: ") as info:
        layer.load_state_dict(state)
    message = str(info.value)
    for part in (
        "missing: 'linear1.bias', 'norm2.weight'",
        "unexpected: 'extra', 'another.extra'",
        "'linear2.weight' is (16, 8), expected (8, 16)",
        "'norm1.bias' is (), expected (8,)",
    ):
        assert part in message


def test_a_refused_state_changes_nothing() -> None:
    layer = nn.Linear(3, 2)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="bias"):
        layer.load_state_dict({"weight": np.ones((2, 3), np.float32), "bias": np.ones(3, np.float32)})
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.complex64, np.object_, np.bool_])
def test_refuses_other_dtypes(dtype: type) -> None:
    layer = nn.Linear(3, 2, bias=False)
    with pytest.raises(TypeError, match=r"^Linear\.load_state_dict: 'weight' has dtype"):
        layer.load_state_dict({"weight": np.ones((2, 3), dtype)})


def test_refuses_a_masked_array() -> None:
    with pytest.raises(TypeError, match="'weight' is a masked array"):
        nn.LayerNorm(3, bias=False).load_state_dict({"weight": np.ma.masked_array(np.ones(3), [0, 1, 0])})


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_state_dict_gives_back_what_was_loaded(dtype: type, rng: np.random.Generator) -> None:
    layer = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, norm=nn.LayerNorm(8))
    state = {k: rng.standard_normal(v.shape).astype(dtype) for k, v in layer.state_dict().items()}
    layer.load_state_dict(state)
    found = layer.state_dict()
    assert list(found) == list(state)
    for name, array in found.items():
        assert array.dtype == dtype
        np.testing.assert_array_equal(array, state[name])


def test_state_dict_is_a_copy_and_so_is_what_was_loaded() -> None:
    bias = np.ones(2, np.float32)
    layer = nn.Linear(3, 2)
    layer.load_state_dict({"weight": np.zeros((2, 3), np.float32), "bias": bias})
    bias[:] = 5
    layer.state_dict()["bias"][:] = 7
    np.testing.assert_array_equal(layer(np.zeros(3, np.float32)), [1, 1])


def test_a_read_only_table_is_not_copied() -> None:
    table = np.ones((4, 3), np.float32)
    table.flags.writeable = False
    layer = nn.Embedding(4, 3)
    layer.load_state_dict({"weight": table})
    assert layer.weight.value is table or np.shares_memory(layer.weight.value, table)


def test_byte_swapped_and_strided_entries(rng: np.random.Generator) -> None:
    weight = rng.standard_normal((2, 6)).astype(np.float32)
    bias = rng.standard_normal(2).astype(np.float32)
    plain, odd = nn.Linear(3, 2), nn.Linear(3, 2)
    plain.load_state_dict({"weight": weight[:, ::2].copy(), "bias": bias})
    odd.load_state_dict({"weight": weight[:, ::2], "bias": bias.astype(bias.dtype.newbyteorder())})
    x = rng.standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_array_equal(plain(x), odd(x))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", np.float64, ml_dtypes.bfloat16])
def test_to_converts_now_and_what_is_loaded_later(dtype: str | type, rng: np.random.Generator) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16)
    state = {k: rng.standard_normal(v.shape).astype(np.float32) for k, v in layer.state_dict().items()}
    layer.load_state_dict(state)
    assert layer.to(dtype) is layer
    late = nn.TransformerEncoderLayer(8, 2, 16).to(dtype)
    late.load_state_dict(state)
    for converted in (layer, late):
        for name, array in converted.state_dict().items():
            assert array.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(array, state[name].astype(dtype))
    x = rng.standard_normal((1, 3, 8)).astype(dtype)
    assert layer(x).dtype == x.dtype
    np.testing.assert_array_equal(layer(x), late(x))


@pytest.mark.parametrize("stored", ["int8", "int4"])
def test_quantised_layers(stored: str, rng: np.random.Generator) -> None:
    """Weights of products are quantised, the rest stays; results are near, and of the input's dtype."""
    layer = nn.TransformerEncoderLayer(64, 4, 128, activation="gelu", rng=rng)
    x = rng.standard_normal((2, 9, 64)).astype(np.float32)
    expected, state = layer(x), layer.state_dict()
    assert layer.to(stored) is layer
    found = layer(x)
    assert found.dtype == np.float32
    # After the norm an element is of size 1; eight bits leave a hundredth, four a tenth.
    error = np.sqrt(np.mean((found - expected) ** 2))
    assert 0 < error <= (0.02 if stored == "int8" else 0.2)
    for name, array in layer.state_dict().items():
        assert array.dtype == np.float32
        if name.endswith("weight") and not name.startswith("norm"):
            assert (
                0
                < np.abs(array - state[name]).max()
                <= np.abs(state[name]).max() * (0.02 if stored == "int8" else 0.1)
            )
        else:
            np.testing.assert_array_equal(array, state[name])
    late = nn.TransformerEncoderLayer(64, 4, 128, activation="gelu").to(stored)
    late.load_state_dict(state)
    np.testing.assert_array_equal(late(x), found)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(layer))(x), found)
    assert np.isfinite(layer.to("float32")(x)).all()


def test_to_refuses_unknown_dtypes_and_leaves_the_layer_alone() -> None:
    layer = nn.Linear(3, 2)
    before = layer.state_dict()
    for dtype in ("float31", "int16", "complex64"):
        with pytest.raises((TypeError, ValueError), match="dtype"):
            layer.to(dtype)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_one_weight_that_cannot_be_quantised_changes_nothing(rng: np.random.Generator) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, rng=rng)
    good = layer.state_dict()
    bad = good | {"linear2.weight": np.full((8, 16), np.nan, np.float32)}
    layer.load_state_dict(bad)
    with pytest.raises(ValueError, match=r"^TransformerEncoderLayer\.to: 'linear2.weight': .*nan at"):
        layer.to("int8")
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, bad[name])
    # Nor does it change what is loaded later.
    layer.load_state_dict(good)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, good[name])
    quantised = layer.to("int8").state_dict()
    ones = {name: np.ones_like(array) for name, array in good.items()}
    with pytest.raises(ValueError, match=r"\.load_state_dict: 'linear2.weight': .*nan at"):
        layer.load_state_dict(ones | {"linear2.weight": bad["linear2.weight"]})
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, quantised[name])


def test_parameters_are_drawn_only_when_needed() -> None:
    layer = nn.Linear(1 << 40, 1 << 20)  # as a plain array, 4 exabytes
    with pytest.raises(ValueError, match="missing: 'weight', 'bias'"):
        layer.load_state_dict({})


def test_threads_that_draw_at_once_share_what_is_drawn() -> None:
    layer = nn.Linear(3, 2, bias=False)
    draw, together = layer.weight._initialise, threading.Barrier(2, timeout=60)

    def slowly(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        drawn = draw(rng, shape)
        together.wait()
        return drawn

    layer.weight._initialise = slowly
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: layer(np.eye(3, dtype=np.float32)), range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(layer(np.eye(3, dtype=np.float32)), first)


@pytest.mark.parametrize("others", [2, 3])
@pytest.mark.parametrize("pieces", [2, 3])
def test_threads_that_cut_an_input_projection_at_once(
    pieces: int, others: int, rng: np.random.Generator
) -> None:
    class CutBetweenReads(InProjectionParameter):
        reads = 0

        @property
        def value(self) -> Any:
            self.reads += 1
            if self.reads == 2:
                self.cut(others)
            return super().value

    weight = rng.standard_normal((12, 4)).astype(np.float32)
    parameter = CutBetweenReads((12, 4), lambda _, shape: weight)
    parts = parameter.cut(pieces)
    assert len(parts) == pieces
    np.testing.assert_array_equal(np.concatenate([part.unpack() for part in parts]), weight)
    np.testing.assert_array_equal(parameter.array(), weight)


def test_a_generator_makes_parameters_reproducible() -> None:
    first = nn.TransformerEncoderLayer(8, 2, 16, rng=np.random.default_rng(3)).state_dict()
    second = nn.TransformerEncoderLayer(8, 2, 16, rng=np.random.default_rng(3))
    second(np.zeros((1, 1, 8), np.float32))
    for name, array in second.state_dict().items():
        np.testing.assert_array_equal(array, first[name])


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_and_pickles(clone: object, rng: np.random.Generator) -> None:
    assert callable(clone)
    layer = nn.TransformerEncoderLayer(8, 2, 16, rng=rng)
    twin = clone(layer)
    x = rng.standard_normal((2, 3, 8)).astype(np.float32)
    expected = layer(x)
    np.testing.assert_array_equal(twin(x), expected)
    twin.to("bfloat16")
    np.testing.assert_array_equal(layer(x), expected)


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"^Linear: in_features must not be negative, got -1"):
        nn.Linear(-1, 2)
    with pytest.raises(TypeError, match=r"^Linear: out_features must be an integer, got float"):
        nn.Linear(1, 2.0)  # type: ignore[arg-type]


def test_rms_norm_of_the_other_byte_order(rng: np.random.Generator) -> None:
    """The default eps is that of its precision."""
    x = rng.standard_normal((3, 8)) * 1e-8
    layer = nn.RMSNorm(8)
    np.testing.assert_array_equal(layer(x.astype(x.dtype.newbyteorder())), layer(x))
