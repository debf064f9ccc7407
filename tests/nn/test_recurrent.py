"""RNN, LSTM and GRU against PyTorch, and against their formulas in float64 NumPy."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib as al
from attnlib import nn

Array = NDArray[Any]
LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


def flat(result: Any) -> list[Any]:
    """The arrays of ``(out, h)`` and ``(out, (h, c))`` alike."""
    out, state = result
    return [out, *state] if isinstance(state, tuple) else [out, state]


def initial(name: str, shape: tuple[int, ...], rng: np.random.Generator, proj: int = 0) -> Any:
    h = rng.standard_normal((*shape[:-1], proj or shape[-1])).astype(np.float32)
    return (h, rng.standard_normal(shape).astype(np.float32)) if name == "LSTM" else h


def wide(torch: Any, state: Any) -> Any:
    if isinstance(state, tuple):
        return tuple(torch.from_numpy(part).double() for part in state)
    return torch.from_numpy(state).double()


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [(), (1,), (3,)])
@pytest.mark.parametrize("given", [False, True])
def test_agrees_with_torch(
    name: str,
    num_layers: int,
    bidirectional: bool,
    bias: bool,
    batch: tuple[int, ...],
    given: bool,
    rng: np.random.Generator,
    twins: Any,
    assert_close: Any,
) -> None:
    torch = pytest.importorskip("torch")
    options: dict[str, Any] = {"num_layers": num_layers, "bidirectional": bidirectional, "bias": bias}
    layer = LAYERS[name](5, 17, **options)
    oracle = twins(layer, getattr(torch.nn, name)(5, 17, batch_first=True, **options))
    x = rng.standard_normal((*batch, 9, 5)).astype(np.float32)
    h0 = initial(name, (num_layers * (1 + bidirectional), *batch, 17), rng) if given else None
    wanted = oracle(torch.from_numpy(x).double(), None if h0 is None else wide(torch, h0))
    before = copy.deepcopy(h0)
    for found, exact in zip(flat(layer(x, h0)), flat(wanted), strict=True):
        assert found.dtype == np.float32
        assert_close(found, exact)
    if h0 is not None:
        assert all(np.array_equal(a, b) for a, b in zip(flat((x, h0)), flat((x, before)), strict=True))


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_projected_lstm(
    bidirectional: bool, given: bool, rng: np.random.Generator, twins: Any, assert_close: Any
) -> None:
    torch = pytest.importorskip("torch")
    options: dict[str, Any] = {"num_layers": 2, "bidirectional": bidirectional, "proj_size": 3}
    layer = nn.LSTM(5, 7, **options)
    oracle = twins(layer, torch.nn.LSTM(5, 7, batch_first=True, **options))
    x = rng.standard_normal((2, 6, 5)).astype(np.float32)
    h0 = initial("LSTM", (2 * (1 + bidirectional), 2, 7), rng, 3) if given else None
    wanted = oracle(torch.from_numpy(x).double(), None if h0 is None else wide(torch, h0))
    for found, exact in zip(flat(layer(x, h0)), flat(wanted), strict=True):
        assert_close(found, exact)


def test_relu_rnn(rng: np.random.Generator, twins: Any, assert_close: Any) -> None:
    torch = pytest.importorskip("torch")
    layer = nn.RNN(5, 7, 2, "relu")
    oracle = twins(layer, torch.nn.RNN(5, 7, 2, "relu", batch_first=True))
    x = rng.standard_normal((2, 6, 5)).astype(np.float32)
    for found, exact in zip(flat(layer(x)), flat(oracle(torch.from_numpy(x).double())), strict=True):
        assert_close(found, exact)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def rnn_step(state: Any, x: Array, w: dict[str, Array]) -> list[Array]:
    (h,) = state
    return [np.tanh(x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"])]


def lstm_step(state: Any, x: Array, w: dict[str, Array]) -> list[Array]:
    h, c = state
    sums = x @ w["weight_ih_l0"].T + w["bias_ih_l0"] + h @ w["weight_hh_l0"].T + w["bias_hh_l0"]
    i, f, g, o = np.split(sums, 4, axis=-1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def gru_step(state: Any, x: Array, w: dict[str, Array]) -> list[Array]:
    (h,) = state
    a = np.split(x @ w["weight_ih_l0"].T + w["bias_ih_l0"], 3, axis=-1)
    b = np.split(h @ w["weight_hh_l0"].T + w["bias_hh_l0"], 3, axis=-1)
    r, z = sigmoid(a[0] + b[0]), sigmoid(a[1] + b[1])
    return [(1 - z) * np.tanh(a[2] + r * b[2]) + z * h]


STEPS: dict[str, Callable[..., list[Array]]] = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step}


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("hidden", [1, 7, 16, 33])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float64", 1e-13), ("float32", 5e-6), ("float16", 2**-10), ("bfloat16", 2**-7)]
)
def test_formula(
    name: str, hidden: int, dtype: str, tolerance: float, rng: np.random.Generator, assert_close: Any
) -> None:
    """Half precision is rounded once: of inputs that it holds, the result is as near as its eps."""
    layer = LAYERS[name](5, hidden, rng=rng).to(dtype)
    weights = {key: value.astype(np.float64) for key, value in layer.state_dict().items()}
    x = rng.standard_normal((2, 6, 5)).astype(np.dtype(dtype))
    state = [np.zeros((2, hidden))] * (2 if name == "LSTM" else 1)
    outs = []
    for step in range(6):
        state = STEPS[name](state, x[:, step].astype(np.float64), weights)
        outs.append(state[0])
    found = flat(layer(x))
    assert all(array.dtype == np.dtype(dtype) for array in found)
    assert_close(found[0], np.stack(outs, axis=1), tolerance)
    for array, exact in zip(found[1:], state, strict=True):
        assert_close(array, exact[None], tolerance)


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_bits_move_with_neither_batch_nor_threads(name: str, dtype: str, rng: np.random.Generator) -> None:
    layer = LAYERS[name](40, 65, 2, bidirectional=True, rng=rng).to(dtype)
    x = rng.standard_normal((17, 12, 40)).astype(np.float32)
    h0 = initial(name, (4, 17, 65), rng)
    with al.num_threads(1):
        wanted = flat(layer(x, h0))
    for threads, rows in itertools.product((1, 2, 3), (slice(0, 1), slice(3, 8), slice(None))):
        part = tuple(p[:, rows] for p in h0) if isinstance(h0, tuple) else h0[:, rows]
        with al.num_threads(threads):
            found = flat(layer(x[rows], part))
        assert found[0].tobytes() == wanted[0][rows].tobytes()
        for array, whole in zip(found[1:], wanted[1:], strict=True):
            assert array.tobytes() == whole[:, rows].tobytes()


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_state_carries_a_sequence_on(name: str, rng: np.random.Generator) -> None:
    layer = LAYERS[name](5, 7, 2, rng=rng)
    x = rng.standard_normal((2, 9, 5)).astype(np.float32)
    whole = flat(layer(x))
    first, state = layer(x[:, :4])
    second = flat(layer(x[:, 4:], state))
    assert np.array_equal(np.concatenate([first, second[0]], axis=1), whole[0])
    assert all(np.array_equal(a, b) for a, b in zip(second[1:], whole[1:], strict=True))


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_any_layout_and_no_steps(name: str, rng: np.random.Generator) -> None:
    layer = LAYERS[name](5, 7, rng=rng)
    x = rng.standard_normal((9, 2, 5)).astype(np.float32)
    strided = flat(layer(x.swapaxes(0, 1)))
    plain = flat(layer(np.ascontiguousarray(x.swapaxes(0, 1))))
    assert all(np.array_equal(a, b) for a, b in zip(strided, plain, strict=True))
    h0 = initial(name, (1, 2, 7), rng)
    out, *state = flat(layer(np.zeros((2, 0, 5), np.float32), h0))
    assert out.shape == (2, 0, 7)
    assert all(np.array_equal(a, b) for a, b in zip(state, flat((x, h0))[1:], strict=True))
    assert flat(layer(np.zeros((0, 4, 5), np.float32)))[0].shape == (0, 4, 7)


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_nan_reaches_its_own_sequence_alone(name: str, rng: np.random.Generator) -> None:
    layer = LAYERS[name](5, 7, rng=rng)
    x = rng.standard_normal((2, 4, 5)).astype(np.float32)
    clean = flat(layer(x))[0]
    x[0, 2, 1] = np.nan
    found = flat(layer(x))[0]
    assert np.array_equal(found[1], clean[1])
    assert np.array_equal(found[0, :2], clean[0, :2])
    assert np.isnan(found[0, 2:]).all()


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_starts_as_in_pytorch(name: str) -> None:
    for array in LAYERS[name](30, 100, 2, rng=np.random.default_rng(0)).state_dict().values():
        assert 0.09 < np.abs(array).max() <= 0.1


def test_mixed_dtypes_promote(rng: np.random.Generator) -> None:
    layer = nn.GRU(3, 4, rng=rng)
    assert layer(np.zeros((1, 2, 3)))[0].dtype == np.float64
    assert layer(np.zeros((1, 2, 3), np.float16))[0].dtype == np.float32
    assert layer.to("bfloat16")(np.zeros((1, 2, 3), np.float16))[1].dtype == np.float32


def test_refusals() -> None:
    x = np.zeros((2, 3, 5), np.float32)
    lstm, gru = nn.LSTM(5, 7, 2), nn.GRU(5, 7)
    with pytest.raises(ValueError, match=r"^LSTM: x has shape \(2, 3, 4\), expected \(B, S, 5\)"):
        lstm(x[..., :4])
    with pytest.raises(ValueError, match=r"^GRU: x has shape \(5,\)"):
        gru(x[0, 0])
    with pytest.raises(ValueError, match=r"^GRU: h0 has shape \(1, 3, 7\), expected .* = \(1, 2, 7\)"):
        gru(x, np.zeros((1, 3, 7), np.float32))
    with pytest.raises(ValueError, match=r"^LSTM: h0\[1\] has shape \(1, 2, 7\), expected .* = \(2, 2, 7\)"):
        lstm(x, (np.zeros((2, 2, 7), np.float32), np.zeros((1, 2, 7), np.float32)))
    with pytest.raises(TypeError, match=r"^LSTM: h0 must be a tuple of two arrays \(h, c\), got ndarray"):
        lstm(x, np.zeros((2, 2, 7), np.float32))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^GRU: x has dtype int64"):
        gru(np.zeros((2, 3, 5), np.int64))
    with pytest.raises(TypeError, match=r"^GRU: h0 has dtype int64"):
        gru(x, np.zeros((1, 2, 7), np.int64))
    with pytest.raises(ValueError, match=r"^RNN: nonlinearity must be 'tanh' or 'relu', got 'gelu'"):
        nn.RNN(5, 7, nonlinearity="gelu")
    with pytest.raises(ValueError, match="only batch_first=True"):
        nn.LSTM(5, 7, batch_first=False)
    with pytest.raises(ValueError, match="num_layers must be at least 1"):
        nn.LSTM(5, 7, 0)
    with pytest.raises(ValueError, match="proj_size 7 must be less than hidden_size 7"):
        nn.LSTM(5, 7, proj_size=7)
    with pytest.raises(ValueError, match="missing: 'weight_ih_l0', 'weight_hh_l0'"):
        gru.load_state_dict({})
