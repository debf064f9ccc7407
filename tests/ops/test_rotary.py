"""rotary_embedding: pairs, positions in each of their forms, features that do not turn."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, accumulator, epsilon, normal, same_bits
from tolerance import assert_within, rotary_bound

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
by_pairing = pytest.mark.parametrize("interleaved", [False, True], ids=("halves", "interleaved"))


def tables(length: int, features: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = oracle.rotary_tables(length, features)
    return cos.astype(dtype), sin.astype(dtype)


def check(
    x: np.ndarray, cos: np.ndarray, sin: np.ndarray, positions: Any = None, interleaved: bool = False
) -> Any:
    result = al.rotary_embedding(x, cos, sin, positions=positions, interleaved=interleaved)
    assert result.dtype == x.dtype
    exact = oracle.rotary_embedding(x, cos, sin, positions, interleaved)
    assert_within(result, exact, rotary_bound(x, cos, sin, epsilon(accumulator(x.dtype))))
    return result


@by_pairing
@by_dtype
@pytest.mark.parametrize(
    ("features", "turned"), [(2, 2), (8, 8), (9, 6), (64, 64), (64, 32), (80, 34), (7, 0), (128, 128)]
)
def test_features(
    features: int, turned: int, dtype: np.dtype[Any], interleaved: bool, rng: np.random.Generator
) -> None:
    """The first R features turn, the others come through bit for bit."""
    x = normal(rng, (2, 3, 5, features), dtype)
    result = check(x, *tables(11, turned, dtype), None, interleaved)
    assert same_bits(result[..., turned:], x[..., turned:])


@by_pairing
@by_dtype
def test_positions(dtype: np.dtype[Any], interleaved: bool, rng: np.random.Generator) -> None:
    """(S,), (B, S), in any integer dtype and layout, repeated and out of order."""
    x = normal(rng, (3, 2, 5, 12), dtype)
    cos, sin = tables(40, 8, dtype)
    for positions in (
        np.arange(5),
        np.array([39, 0, 0, 7, 3], np.int32),
        np.arange(40)[::-8],
        np.full(5, 12, np.uint8),
        rng.integers(0, 40, (3, 5)),
        rng.integers(0, 40, (5, 3)).T,
        rng.integers(0, 40, (3, 5)).astype(np.int16),
    ):
        check(x, cos, sin, positions, interleaved)


@by_pairing
@by_dtype
def test_rows_already_picked(dtype: np.dtype[Any], interleaved: bool, rng: np.random.Generator) -> None:
    """cos and sin (B, S, R/2) are used as they are."""
    x = normal(rng, (3, 2, 5, 12), dtype)
    cos, sin = tables(40, 8, dtype)
    positions = rng.integers(0, 40, (3, 5))
    picked = check(x, cos[positions], sin[positions], None, interleaved)
    assert same_bits(picked, al.rotary_embedding(x, cos, sin, positions=positions, interleaved=interleaved))


@by_pairing
@pytest.mark.parametrize(
    "shape", [(2, 5, 12), (0, 2, 5, 12), (2, 0, 5, 12), (2, 3, 0, 12), (2, 3, 1, 12)], ids=str
)
def test_shapes(shape: tuple[int, ...], interleaved: bool, rng: np.random.Generator) -> None:
    check(normal(rng, shape, np.float32), *tables(9, 12, np.float32), None, interleaved)


def test_more_batch_axes(rng: np.random.Generator) -> None:
    """x (..., H, S, D) with positions (S,)."""
    x = normal(rng, (2, 3, 2, 5, 12), np.float32)
    check(x, *tables(9, 12, np.float32), np.array([8, 1, 1, 0, 3]))


def test_in_place(rng: np.random.Generator) -> None:
    for interleaved in (False, True):
        x = normal(rng, (2, 3, 40, 64), np.float32)
        expected = al.rotary_embedding(x, *tables(40, 64, np.float32), interleaved=interleaved)
        al.rotary_embedding(x, *tables(40, 64, np.float32), interleaved=interleaved, out=x)
        assert same_bits(x, expected)


def test_turning_back(rng: np.random.Generator) -> None:
    """A turn by the opposite angle undoes it."""
    x = normal(rng, (2, 3, 40, 64), np.float64)
    cos, sin = tables(40, 64, np.float64)
    for interleaved in (False, True):
        there = al.rotary_embedding(x, cos, sin, interleaved=interleaved)
        back = al.rotary_embedding(there, cos, -sin, interleaved=interleaved)
        assert_within(back, x, 20 * epsilon(np.float64) * np.max(np.abs(x)))


def test_refused() -> None:
    x = np.zeros((3, 2, 5, 12), np.float32)
    cos, sin = tables(40, 8, np.float32)
    for positions in (
        [0, 1, 2, 3, 40],
        [0, 1, 2, 3, -1],
        [[0] * 5] * 2,
        [0, 1, 2, 3],
        3,
        [[[0] * 5] * 2] * 3,
    ):
        with pytest.raises(ValueError, match=r"(?s)^rotary_embedding.*positions"):
            al.rotary_embedding(x, cos, sin, positions=np.array(positions))
    for positions in ([0.0, 1.0, 2.0, 3.0, 4.0], [True] * 5, [1j] * 5):
        with pytest.raises(TypeError, match=r"(?s)^rotary_embedding.*positions.*(float64|bool|complex128)"):
            al.rotary_embedding(x, cos, sin, positions=np.array(positions))
    with pytest.raises(ValueError, match=r"(?s)^rotary_embedding.*cos"):
        al.rotary_embedding(x, *tables(4, 8, np.float32))  # four rows for five positions
    with pytest.raises(ValueError, match=r"(?s)^rotary_embedding.*\(40, 7\)"):
        al.rotary_embedding(x, *tables(40, 14, np.float32))  # 14 features turn, but x has 12
    with pytest.raises(ValueError, match=r"(?s)^rotary_embedding.*sin"):
        al.rotary_embedding(x, cos, sin[:, :3])
    with pytest.raises(ValueError, match=r"(?s)^rotary_embedding.*cos"):
        al.rotary_embedding(x, cos[0], sin[0])
    with pytest.raises(ValueError, match=r"(?s)^rotary_embedding.*cos.*\(2, 5, 4\)"):
        al.rotary_embedding(x, np.zeros((2, 5, 4), np.float32), np.zeros((2, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"(?s)^rotary_embedding.*x"):
        al.rotary_embedding(np.zeros(12, np.float32), cos, sin)
    for name in ("x", "cos", "sin"):
        arrays = {"x": x, "cos": cos, "sin": sin}
        arrays[name] = arrays[name].astype(np.int32)
        with pytest.raises(TypeError, match=f"(?s)^rotary_embedding.*{name}.*int32"):
            al.rotary_embedding(**arrays)
