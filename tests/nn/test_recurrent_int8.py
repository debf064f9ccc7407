"""RNN, LSTM and GRU with int8 weights: how far half a step of what is multiplied may move a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import FLOAT32, epsilon
from numpy.typing import NDArray
from quantization import input_error, rounding_error, weight_error

from attnlib import nn

Float = NDArray[np.float64]
LAYERS = {"RNN": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}


@dataclass(frozen=True)
class Near:
    """Numbers, and how far others may lie from them."""

    value: Float
    error: Float

    def __add__(self, other: Near) -> Near:
        return Near(self.value + other.value, self.error + other.error)

    def __mul__(self, other: Near) -> Near:
        mixed = np.abs(self.value) * other.error + self.error * np.abs(other.value)
        return Near(self.value * other.value, mixed + self.error * other.error)

    def split(self, count: int) -> list[Near]:
        values, errors = (np.split(part, count, axis=-1) for part in (self.value, self.error))
        return [Near(*both) for both in zip(values, errors, strict=True)]

    def sigmoid(self) -> Near:
        """Of slope at most 1/4."""
        return Near(oracle.sigmoid(self.value), self.error / 4)

    def tanh(self) -> Near:
        """Of slope at most 1."""
        return Near(np.tanh(self.value), self.error)


def exactly(value: Float) -> Near:
    return Near(value, np.zeros_like(value))


def product(x: Float, packed: Any, bias: Float) -> Near:
    """The product with what an int8 weight unpacks to."""
    weight = oracle.float64(packed.unpack())
    return Near(x @ weight.T + bias, input_error(x, packed, None) + rounding_error(x, weight, 1))


def rnn_step(a: Near, b: Near, h: Near, c: Near) -> tuple[Near, Near]:
    return (a + b).tanh(), c


def lstm_step(a: Near, b: Near, h: Near, c: Near) -> tuple[Near, Near]:
    i, f, g, o = (a + b).split(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru_step(a: Near, b: Near, h: Near, c: Near) -> tuple[Near, Near]:
    (a_r, a_z, a_n), (b_r, b_z, b_n) = a.split(3), b.split(3)
    r, z = (a_r + b_r).sigmoid(), (a_z + b_z).sigmoid()
    n = (a_n + r * b_n).tanh()
    return Near(1 - z.value, z.error) * n + z * h, c


STEPS: dict[str, Callable[[Near, Near, Near, Near], tuple[Near, Near]]]
STEPS = {"RNN": rnn_step, "LSTM": lstm_step, "GRU": gru_step}


def assert_near(found: Any, wanted: Near) -> None:
    # On top, float32's rounding: gates are numbers of at most 1, each computed to a few eps.
    excess = np.abs(oracle.float64(found) - wanted.value) - wanted.error - 16 * epsilon(FLOAT32)
    assert (excess <= 0).all(), f"{excess.max()} beyond a bound of {wanted.error.flat[excess.argmax()]}"


@pytest.mark.parametrize("name", sorted(LAYERS))
@pytest.mark.parametrize("one_sign", [False, True])
def test_steps_multiply_by_what_is_unpacked(name: str, one_sign: bool, rng: np.random.Generator) -> None:
    """Each step is given the state that the one before it found: over several, worst cases would multiply.

    Small numbers of one sign leave every slope near its bound, and errors of one sign nothing to cancel: a
    scale that is wrong by two of its 255 steps shows.
    """
    layer: Any = LAYERS[name](48, 64, bidirectional=True, rng=rng)
    x = rng.standard_normal((2, 6, 48)).astype(np.float32)
    h0, c0 = rng.standard_normal((2, 2, 2, 64)).astype(np.float32)
    if one_sign:
        x, h0, c0 = (rng.random(part.shape, np.float32) for part in (x, h0, c0))
        x /= 4
        layer.load_state_dict({key: np.abs(part) / 8 for key, part in layer.state_dict().items()})
    originals = layer.state_dict()
    layer.to("int8")
    for key, original in originals.items():
        if key.startswith("weight"):
            packed = getattr(layer, key).value
            assert_near(packed.unpack(), Near(oracle.float64(original), weight_error(original, packed)))
    out, last = layer(x, (h0, c0) if name == "LSTM" else h0)
    assert out.dtype == np.float32
    for direction, suffix in enumerate(("_l0", "_l0_reverse")):
        weights = [getattr(layer, key + suffix).value for key in ("weight_ih", "weight_hh")]
        biases = [oracle.float64(originals[key + suffix]) for key in ("bias_ih", "bias_hh")]
        hidden, cell = oracle.float64(h0[direction]), exactly(oracle.float64(c0[direction]))
        for step in range(6)[:: -1 if direction else 1]:
            found = out[:, step, 64 * direction : 64 * (direction + 1)]
            inputs = oracle.float64(x[:, step]), hidden
            a, b = (product(*parts) for parts in zip(inputs, weights, biases, strict=True))
            wanted, cell = STEPS[name](a, b, exactly(hidden), cell)
            assert_near(found, wanted)
            hidden = oracle.float64(found)
        np.testing.assert_array_equal((last[0] if name == "LSTM" else last)[direction], hidden)
        if name == "LSTM":
            assert_near(last[1][direction], cell)
