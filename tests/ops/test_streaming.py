"""Results so large that they are written past the caches: the bits are those of small pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib as al

Array = NDArray[Any]

# 28 MB of float32, 63 cache lines a row; 1,001 of its columns end within a register.
ROWS, WHOLE = 7300, 1008
OPERATIONS: dict[str, Callable[..., Array]] = {
    "softmax": al.softmax,
    "masked softmax": lambda x, **out: al.softmax(x, mask=x < 1.5, **out),
    "softmax with a flag a row": lambda x, **out: al.softmax(x, mask=x[:, :1] < 1.5, **out),
    "log_softmax": al.log_softmax,
    "layer_norm": lambda x, **out: al.layer_norm(x, x[0] + 1, x[1], **out),
    "layer_norm of a sum": lambda x, **out: al.layer_norm(x, residual=x[::-1], **out),
    "rms_norm": al.rms_norm,
    "gelu": al.gelu,
    "swiglu": lambda x, **out: al.swiglu(x, x[::-1], **out),
}


def apart(shape: tuple[int, int], dtype: str = "float32") -> Array:
    """Memory whose rows do not begin with cache lines, and which is therefore never streamed to."""
    return np.empty((shape[0], shape[1] + 3), dtype)[:, :-3]


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("columns", [WHOLE, 1001])
@pytest.mark.parametrize("threads", [1, 2])
def test_bits(name: str, columns: int, threads: int, rng: np.random.Generator) -> None:
    operation = OPERATIONS[name]
    x = rng.standard_normal((ROWS, columns), dtype=np.float32)
    lines = al.gelu(np.zeros((ROWS, WHOLE), np.float32))  # attnlib's own memory, which begins with a page
    assert lines.ctypes.data % 64 == 0
    with al.num_threads(threads):
        found = operation(x, out=lines[:, :columns])
        expected = operation(x, out=apart(x.shape))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["softmax", "layer_norm", "gelu"])
def test_float64(name: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((4000, 1000))
    found = OPERATIONS[name](x)
    assert found.ctypes.data % 64 == 0
    np.testing.assert_array_equal(found, OPERATIONS[name](x, out=apart(x.shape, "float64")))


def test_in_place(rng: np.random.Generator) -> None:
    x = rng.standard_normal((ROWS, WHOLE), dtype=np.float32)
    expected = al.softmax(x)
    np.testing.assert_array_equal(al.softmax(x, out=x), expected)
