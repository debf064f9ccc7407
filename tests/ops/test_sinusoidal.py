"""sinusoidal_encoding: right at positions in the thousands, where float32 angles would not be."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, epsilon, smallest_normal
from tolerance import assert_within

import attnlib as al


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (1, 1), (7, 5), (50, 64), (5000, 16)], ids=str)
def test_values(shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
    result = al.sinusoidal_encoding(*shape, dtype=dtype.name)
    assert result.dtype == dtype
    # A float64 angle of thousands is off by eps times itself; the rest is the rounding to the dtype.
    angle = 4 * epsilon(np.float64) * max(shape[0], 1)
    bound = (
        angle + epsilon(dtype) * np.abs(exact := oracle.sinusoidal_encoding(*shape)) + smallest_normal(dtype)
    )
    assert_within(result, exact, bound)


def test_options() -> None:
    assert al.sinusoidal_encoding(3, 4).dtype == np.float32
    for dtype in ("float64", np.float64, np.dtype("float64"), DTYPES["bfloat16"], DTYPES["bfloat16"].type):
        assert al.sinusoidal_encoding(3, 4, dtype=dtype).dtype == np.dtype(dtype)
    exact = oracle.sinusoidal_encoding(30, 8, 500.0)
    assert_within(al.sinusoidal_encoding(30, 8, base=500.0, dtype="float64"), exact, 1e-13)


def test_refused() -> None:
    for length, dim, name in ((-1, 4, "length"), (4, -1, "dim")):
        with pytest.raises(ValueError, match=rf"(?s)^sinusoidal_encoding.*{name}.*-1"):
            al.sinusoidal_encoding(length, dim)
    for length, dim, name in ((2.5, 4, "length"), (4, "8", "dim")):
        with pytest.raises(TypeError, match=rf"(?s)^sinusoidal_encoding.*{name}"):
            al.sinusoidal_encoding(length, dim)
    for dtype in ("int32", "complex64", "uint16"):
        with pytest.raises(TypeError, match=rf"(?s)^sinusoidal_encoding.*dtype.*{dtype}"):
            al.sinusoidal_encoding(3, 4, dtype=dtype)
    for base in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"(?s)^sinusoidal_encoding.*base"):
            al.sinusoidal_encoding(3, 4, base=base)


def test_odd_arguments() -> None:
    assert al.sinusoidal_encoding(True, np.int8(3)).shape == (1, 3)  # type: ignore[arg-type]
    for base in ([1.0], "high", None, 1j):
        with pytest.raises(TypeError, match=r"^sinusoidal_encoding: base must be a number"):
            al.sinusoidal_encoding(2, 2, base=base)  # type: ignore[arg-type]
