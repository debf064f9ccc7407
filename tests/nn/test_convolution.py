"""Conv1d against PyTorch, and against its formula in float64 NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from quantization import input_error, rounding_error, weight_error
from tolerance import assert_within

import attnlib as al
from attnlib import nn


@pytest.mark.parametrize("kernel_size", [1, 3, 4])
@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("padding", [0, 1, 3, "valid", "same"])
@pytest.mark.parametrize("dilation", [1, 2])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
def test_agrees_with_torch(
    kernel_size: int,
    stride: int,
    padding: Any,
    dilation: int,
    groups: int,
    bias: bool,
    rng: np.random.Generator,
    twins: Any,
    assert_close: Any,
) -> None:
    torch = pytest.importorskip("torch")
    arguments: tuple[Any, ...] = (6, 12, kernel_size, stride, padding, dilation, groups, bias)
    if padding == "same" and stride != 1:
        with pytest.raises(ValueError, match=r"^Conv1d: padding 'same' needs stride 1"):
            nn.Conv1d(*arguments)
        return
    layer = nn.Conv1d(*arguments)
    oracle = twins(layer, torch.nn.Conv1d(*arguments))
    for shape in ((6, 11), (1, 6, 7), (3, 6, 33), (0, 6, 8)):
        x = rng.standard_normal(shape).astype(np.float32)
        assert_close(layer(x), oracle(torch.from_numpy(x).double()))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-13), ("float32", 5e-6), ("float16", 2**-10), ("bfloat16", 2**-7)]
)
@pytest.mark.parametrize("groups", [1, 4])
def test_formula(
    dtype: str, tolerance: float, groups: int, rng: np.random.Generator, assert_close: Any
) -> None:
    layer = nn.Conv1d(8, 20, 3, 2, 1, groups=groups, rng=rng).to(dtype)
    weight, bias = (layer.state_dict()[name].astype(np.float64) for name in ("weight", "bias"))
    x = rng.standard_normal((2, 8, 15)).astype(np.dtype(dtype))
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1)))
    exact = np.empty((2, 20, 8))
    for o, m in itertools.product(range(20), range(8)):
        first = o // (20 // groups) * (8 // groups)
        window = padded[:, first : first + 8 // groups, 2 * m : 2 * m + 3]
        exact[:, o, m] = np.sum(window * weight[o], axis=(1, 2)) + bias[o]
    found = layer(x)
    assert found.dtype == np.dtype(dtype)
    assert_close(found, exact, tolerance)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("one_sign", [False, True])
def test_int8(groups: int, one_sign: bool, rng: np.random.Generator) -> None:
    """Half a step of each weight and of each value of a window; errors of one sign have nothing to cancel."""
    layer = nn.Conv1d(32, 64, 3, padding=1, groups=groups, rng=rng)
    x = rng.standard_normal((2, 32, 40)).astype(np.float32)
    if one_sign:
        x = np.abs(x)
        layer.load_state_dict({name: np.abs(part) for name, part in layer.state_dict().items()})
    original = layer.state_dict()["weight"]
    stored = layer.to("int8").state_dict()["weight"]
    assert stored.shape == original.shape == (64, 32 // groups, 3)
    twin = nn.Conv1d(32, 64, 3, padding=1, groups=groups)
    twin.load_state_dict(layer.state_dict())
    wanted = twin.to("float64")(x)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=2)  # (B, C, M, K)
    found = layer(x)
    for group, packed in enumerate(layer.weight.value):
        mine = slice(group * 64 // groups, (group + 1) * 64 // groups)
        # A row of the product holds the channels of one step after those of another.
        flat = original[mine].swapaxes(1, 2).reshape(64 // groups, -1)
        error = stored[mine].swapaxes(1, 2).reshape(flat.shape) - oracle.float64(flat)
        assert (np.abs(error) <= weight_error(flat, packed)).all()
        channels = windows[:, group * 32 // groups : (group + 1) * 32 // groups]
        rows = channels.transpose(0, 2, 3, 1).reshape(2, 40, -1)
        bound = input_error(rows, packed, None) + rounding_error(rows, packed.unpack(), 1)
        assert_within(found[:, mine], wanted[:, mine], bound.swapaxes(1, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("groups", [1, 3])
def test_weights_come_back_as_they_were(dtype: str, groups: int, rng: np.random.Generator) -> None:
    weight = rng.standard_normal((6, 6 // groups, 5)).astype(np.dtype(dtype))
    layer = nn.Conv1d(6, 6, 5, groups=groups, bias=False)
    layer.load_state_dict({"weight": weight})
    assert np.array_equal(layer.state_dict()["weight"], weight)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_bits_move_with_neither_batch_nor_threads(dtype: str, rng: np.random.Generator) -> None:
    layer = nn.Conv1d(40, 65, 3, 2, 1, rng=rng).to(dtype)
    x = rng.standard_normal((9, 40, 130)).astype(np.float32)
    with al.num_threads(1):
        wanted = layer(x)
    for threads, rows in itertools.product((1, 2, 3), (slice(0, 1), slice(2, 6), slice(None))):
        with al.num_threads(threads):
            assert layer(x[rows]).tobytes() == wanted[rows].tobytes()


def test_layouts_give_the_same_bits(rng: np.random.Generator) -> None:
    """Channels innermost, as a Conv1d returns them, reversed, and as a column of something wider."""
    x = rng.standard_normal((2, 8, 30)).astype(np.float32)
    inner = np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)
    reversed_twice = np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1]
    for padding, dilation in itertools.product((0, 1), (1, 3)):
        layer = nn.Conv1d(8, 5, 3, padding=padding, dilation=dilation, rng=rng)
        wanted = layer(x)
        assert np.array_equal(layer(inner), wanted)
        assert np.array_equal(layer(reversed_twice), wanted)
        assert layer(x).swapaxes(1, 2).flags.c_contiguous


def test_starts_as_in_pytorch() -> None:
    for array in nn.Conv1d(50, 300, 2, rng=np.random.default_rng(0)).state_dict().values():
        assert 0.09 < np.abs(array).max() <= 0.1


def test_mixed_dtypes_promote() -> None:
    layer = nn.Conv1d(3, 4, 2)
    assert layer(np.zeros((1, 3, 5), ml_dtypes.bfloat16)).dtype == np.float32
    assert layer(np.zeros((1, 3, 5))).dtype == np.float64


@pytest.mark.parametrize("kind", [tuple, list])
def test_sizes_as_pytorch_takes_them(kind: type) -> None:
    """A number, or a sequence of one."""
    plain = nn.Conv1d(2, 3, 4, 2, 1, 3)
    layer = nn.Conv1d(2, 3, *(kind([size]) for size in (4, 2, 1, 3)))
    for name in ("kernel_size", "stride", "padding", "dilation"):
        assert getattr(layer, name) == getattr(plain, name)


def test_refusals() -> None:
    layer = nn.Conv1d(6, 4, 3, dilation=2)
    with pytest.raises(ValueError, match=r"^Conv1d: x has shape \(2, 5, 9\), expected \(B, 6, L\)"):
        layer(np.zeros((2, 5, 9), np.float32))
    with pytest.raises(ValueError, match=r"^Conv1d: x has shape \(6,\)"):
        layer(np.zeros(6, np.float32))
    with pytest.raises(ValueError, match=r"^Conv1d: a window reaches over 5 steps, more than the 4 of x"):
        layer(np.zeros((6, 4), np.float32))
    with pytest.raises(TypeError, match=r"^Conv1d: x has dtype int64"):
        layer(np.zeros((2, 6, 9), np.int64))
    with pytest.raises(ValueError, match="must be multiples of groups 4"):
        nn.Conv1d(6, 4, 3, groups=4)
    with pytest.raises(ValueError, match=r"^Conv1d: padding_mode must be 'zeros', got 'reflect'"):
        nn.Conv1d(6, 4, 3, padding_mode="reflect")
    with pytest.raises(ValueError, match="padding must be an integer, 'valid' or 'same', got 'full'"):
        nn.Conv1d(6, 4, 3, padding="full")
    with pytest.raises(ValueError, match="padding must not be negative, got -1"):
        nn.Conv1d(6, 4, 3, padding=-1)
    for name in ("kernel_size", "stride", "dilation", "groups"):
        arguments: dict[str, Any] = {"kernel_size": 3, name: 0}
        with pytest.raises(ValueError, match=f"^Conv1d: {name} must be at least 1, got 0"):
            nn.Conv1d(6, 4, **arguments)
    with pytest.raises(TypeError, match="stride must be an integer, got float"):
        nn.Conv1d(6, 4, 3, 1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"padding must be one integer, got \[\]"):
        nn.Conv1d(2, 2, 1, padding=[])
    with pytest.raises(ValueError, match=r"stride must be one integer, got \(1, 2\)"):
        nn.Conv1d(6, 4, 3, (1, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"'weight' is \(4, 6, 2\), expected \(4, 6, 3\)"):
        layer.load_state_dict({"weight": np.zeros((4, 6, 2)), "bias": np.zeros(4)})
