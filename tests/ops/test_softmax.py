"""softmax and log_softmax: axes, masks, rows without anything, extreme values."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, accumulator, epsilon, normal
from tolerance import assert_within, log_softmax_bound, softmax_bound

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def check(x: np.ndarray, axis: int = -1, mask: Any = None) -> np.ndarray:
    result = al.softmax(x, axis, mask=mask)
    assert result.dtype == x.dtype
    exact = oracle.softmax(x, axis, mask)
    masked = oracle.float64(x) if mask is None else np.where(mask, oracle.float64(x), -np.inf)
    assert_within(result, exact, softmax_bound(masked, exact, axis, epsilon(accumulator(x.dtype))))
    return result


def check_log(x: np.ndarray, axis: int = -1) -> np.ndarray:
    result = al.log_softmax(x, axis)
    assert result.dtype == x.dtype
    exact = oracle.log_softmax(x, axis)
    assert_within(result, exact, log_softmax_bound(x, exact, axis, epsilon(accumulator(x.dtype))))
    return result


@by_dtype
@pytest.mark.parametrize("axis", [-1, -2, -3, 0, 1, 2])
def test_axis(axis: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = normal(rng, (5, 18, 7), dtype, 4.0)
    check(x, axis)
    check_log(x, axis)


@by_dtype
def test_sums_to_one(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    result = check(normal(rng, (10, 1001), dtype, 2.0))
    assert np.allclose(result.astype(np.float64).sum(axis=-1), 1.0, rtol=0, atol=30 * epsilon(dtype))


@by_dtype
@pytest.mark.parametrize("shape", [(3, 4, 9), (1, 4, 9), (3, 1, 9), (9,), (4, 1), (1, 1, 1)], ids=str)
def test_mask_broadcasts(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    check(normal(rng, (3, 4, 9), dtype), -1, rng.random(shape) < 0.6)


@by_dtype
@pytest.mark.parametrize("axis", [0, 1])
def test_mask_along_another_axis(axis: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    check(normal(rng, (3, 4, 9), dtype), axis, rng.random((3, 4, 9)) < 0.6)


@by_dtype
def test_rows_without_anything_are_zeros(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = normal(rng, (4, 37), dtype)
    mask = np.ones((4, 37), bool)
    mask[1] = False
    assert np.all(check(x, -1, mask)[1] == 0)
    x[2] = -np.inf
    assert np.all(check(x)[2] == 0)
    assert np.all(check(x, -1, mask)[1:3] == 0)
    assert np.all(check_log(x)[2] == 0)


@by_dtype
def test_what_is_masked_does_not_count(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """NaN and infinities behind the mask never reach the result."""
    x = normal(rng, (4, 37), dtype)
    mask = rng.random((4, 37)) < 0.5
    clean = check(x, -1, mask)
    for dirt in (np.nan, np.inf, -np.inf):
        result = al.softmax(np.where(mask, x, np.asarray(dirt, dtype)), mask=mask)
        assert result.tobytes() == clean.tobytes()


@by_dtype
def test_single_infinities(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """-inf has weight zero, and a logarithm of -inf."""
    x = normal(rng, (3, 20), dtype)
    x[0, 5] = x[1, ::2] = -np.inf
    assert check(x)[0, 5] == 0
    assert np.isneginf(check_log(x)[0, 5])


@by_dtype
def test_extreme_values(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Neither overflow nor NaN at the ends of the dtype."""
    largest = np.array(60000.0 if dtype == np.float16 else 3e38, dtype)
    for x in (
        np.full((2, 19), largest, dtype),
        np.full((2, 19), -largest, dtype),
        np.where(rng.random((2, 19)) < 0.5, largest, -largest),
        normal(rng, (2, 19), dtype, 1000.0),
        np.full((2, 19), np.asarray(1e-7, dtype)),
    ):
        check(x)
        check_log(x)


@by_dtype
def test_nan_stays_in_its_row(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = normal(rng, (6, 37), dtype)
    x[2, 36] = np.nan
    clean = np.delete(np.arange(6), 2)
    for function in (al.softmax, al.log_softmax):
        result = function(x).astype(np.float64)
        assert np.isnan(result[2]).any()
        assert np.isfinite(result[clean]).all()
        assert np.array_equal(result[clean], function(x[clean]).astype(np.float64))


@by_dtype
@pytest.mark.parametrize("rows", [1, 3])
def test_long_rows(rows: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Rows that several threads share have the bits that one thread gives them."""
    x = normal(rng, (rows, 50257), dtype, 3.0)
    x[0, 40000] = -np.inf
    masks = (None, rng.random((rows, 50257)) < 0.5, np.arange(rows)[:, None] != 0)
    with al.num_threads(1):
        alone = [check(x, -1, mask) for mask in masks] + [check_log(x)]
    for threads in (2, 3):
        with al.num_threads(threads):
            shared = [al.softmax(x, mask=mask) for mask in masks] + [al.log_softmax(x)]
        assert [result.tobytes() for result in shared] == [result.tobytes() for result in alone]
    with al.num_threads(2):
        assert al.softmax(x, out=x).tobytes() == alone[0].tobytes()


@by_dtype
@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), (2, 0, 3)], ids=str)
def test_empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    for axis in range(len(shape)):
        for function in (al.softmax, al.log_softmax):
            result = function(np.zeros(shape, dtype), axis)
            assert result.shape == shape
            assert result.dtype == dtype


def test_refused() -> None:
    x = np.zeros((3, 4), np.float32)
    for function, name in ((al.softmax, "softmax"), (al.log_softmax, "log_softmax")):
        for axis in (2, -3):
            with pytest.raises(ValueError, match="axis"):
                function(x, axis)
        with pytest.raises(ValueError, match=name):
            function(np.float32(1.0))
        with pytest.raises(TypeError, match=f"(?s)^{name}.*x.*int64"):
            function(np.zeros((3, 4), np.int64))
    with pytest.raises(ValueError, match=r"(?s)^softmax.*mask.*\(4, 4\)"):
        al.softmax(x, mask=np.ones((4, 4), bool))
    with pytest.raises(ValueError, match=r"(?s)^softmax.*mask"):
        al.softmax(x, mask=np.ones((2, 3, 4), bool))
    for dtype in (np.float32, np.int64, np.uint8):
        with pytest.raises(TypeError, match=f"(?s)^softmax.*mask.*{np.dtype(dtype).name}"):
            al.softmax(x, mask=np.ones((3, 4), dtype))


@pytest.mark.parametrize("axis", [np.float32(1.7), np.array(1.5), 1.0, "1", None])
def test_an_axis_is_an_integer(axis: Any) -> None:
    for function in (al.softmax, al.log_softmax):
        with pytest.raises(TypeError, match="softmax"):
            function(np.ones((2, 3)), axis)
    np.testing.assert_array_equal(al.softmax(np.ones((2, 4)), np.int64(1)), 0.25)
