"""Results so large that they are written past the caches: the bits are those of small pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib as al

Array = NDArray[Any]

# 28 MB of float32: rows of whole cache lines, and rows that end within one.
SHAPES = [(7100, 1008), (7300, 1001)]
OPERATIONS: dict[str, Callable[..., Array]] = {
    "softmax": al.softmax,
    "masked softmax": lambda x, **out: al.softmax(x, mask=x[:, :] < 1.5, **out),
    "log_softmax": al.log_softmax,
    "layer_norm": lambda x, **out: al.layer_norm(x, x[0] + 1, x[1], **out),
    "layer_norm of a sum": lambda x, **out: al.layer_norm(x, residual=x[::-1], **out),
    "rms_norm": al.rms_norm,
    "gelu": al.gelu,
    "swiglu": lambda x, **out: al.swiglu(x, x[::-1], **out),
}


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=["lines", "odd"])
@pytest.mark.parametrize("threads", [1, 2])
def test_bits(name: str, shape: tuple[int, int], threads: int, rng: np.random.Generator) -> None:
    operation = OPERATIONS[name]
    x = rng.standard_normal(shape, dtype=np.float32)
    with al.num_threads(threads):
        found = operation(x)
        # A padded result is never streamed.
        wide = np.empty((shape[0], shape[1] + 3), np.float32)
        expected = operation(x, out=wide[:, :-3])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "gelu"])
def test_float64(name: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4000, 1000))
    wide = np.empty((4000, 1003))
    np.testing.assert_array_equal(OPERATIONS[name](x), OPERATIONS[name](x, out=wide[:, :-3]))


def test_in_place(rng: np.random.Generator) -> None:
    x = rng.standard_normal(SHAPES[0], dtype=np.float32)
    expected = al.softmax(x)
    np.testing.assert_array_equal(al.softmax(x, out=x), expected)
