"""layer_norm and rms_norm: parameters alone and together, hard rows, the error bound of two passes."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, accumulator, epsilon, normal
from tolerance import assert_within, layer_norm_bound, rms_norm_bound

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def check_layer(
    x: np.ndarray, weight: Any = None, bias: Any = None, eps: float = 1e-5, residual: Any = None
) -> np.ndarray:
    result = al.layer_norm(x, weight, bias, eps=eps, residual=residual)
    assert result.dtype == x.dtype
    exact = oracle.layer_norm(x, weight, bias, eps, residual)
    total = oracle.float64(x) if residual is None else oracle.float64(x) + oracle.float64(residual)
    unit = epsilon(accumulator(x.dtype))
    assert_within(result, exact, layer_norm_bound(total, weight, bias, eps, exact, unit))
    return result


def check_rms(x: np.ndarray, weight: Any = None, eps: float = 1e-5, residual: Any = None) -> np.ndarray:
    result = al.rms_norm(x, weight, eps=eps, residual=residual)
    assert result.dtype == x.dtype
    exact = oracle.rms_norm(x, weight, eps, residual)
    assert_within(result, exact, rms_norm_bound(x, exact, epsilon(accumulator(x.dtype))))
    return result


@by_dtype
@pytest.mark.parametrize("width", [1, 2, 15, 64, 100, 384, 768, 1025])
def test_parameters(width: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x, residual = normal(rng, (5, width), dtype), normal(rng, (5, width), dtype)
    weight, bias = normal(rng, (width,), dtype), normal(rng, (width,), dtype)
    for w, b, r in product((None, weight), (None, bias), (None, residual)):
        check_layer(x, w, b, 1e-5, r)
        check_rms(x, w, 1e-6, r)


@by_dtype
@pytest.mark.parametrize("shape", [(20,), (1, 20), (2, 3, 4, 20), (0, 20), (3, 0)], ids=str)
def test_shapes(shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x, weight = normal(rng, shape, dtype), normal(rng, shape[-1:], dtype)
    check_layer(x, weight, weight)
    check_rms(x, weight)


@by_dtype
def test_large_mean(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The variance must not be the difference of two large numbers."""
    x = (rng.standard_normal((4, 300)) + 1000.0).astype(dtype)
    check_layer(x)
    check_layer(x, normal(rng, (300,), dtype), normal(rng, (300,), dtype))


@by_dtype
def test_constant_rows(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """No variance at all: the bias remains."""
    bias = normal(rng, (64,), dtype)
    x = np.repeat(np.array([[0.0], [1.0], [-3.0], [256.0]], dtype), 64, axis=1)
    assert np.array_equal(
        check_layer(x, None, bias).astype(np.float64), np.tile(bias.astype(np.float64), (4, 1))
    )
    assert np.all(check_rms(x)[0] == 0)


@by_dtype
@pytest.mark.parametrize("eps", [1e-12, 1e-5, 1e-3, 1.0])
def test_eps(eps: float, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = normal(rng, (4, 65), dtype, 0.01)
    check_layer(x, eps=eps)
    check_rms(x, eps=eps)


def test_large_and_small_values(rng: np.random.Generator) -> None:
    """Squares of values whose squares still fit."""
    for scale in (1e-15, 1e15):
        x = normal(rng, (4, 65), np.float32, scale)
        check_layer(x, eps=1e-32)
        check_rms(x, eps=1e-32)


@by_dtype
def test_residual_in_place(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for norm in (al.layer_norm, al.rms_norm):
        x, residual = normal(rng, (7, 65), dtype), normal(rng, (7, 65), dtype)
        expected = norm(x, residual=residual)
        assert norm(x, residual=residual, out=residual) is residual
        assert residual.tobytes() == expected.tobytes()


@by_dtype
@pytest.mark.parametrize("rows", [1, 3])
def test_long_rows(rows: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Rows that several threads share have the bits that one thread gives them."""
    x, residual = normal(rng, (rows, 50257), dtype), normal(rng, (rows, 50257), dtype)
    weight = normal(rng, (50257,), dtype)
    with al.num_threads(1):
        alone = [check_layer(x, weight, weight), check_layer(x, residual=residual), check_rms(x, weight)]
    for threads in (2, 3):
        with al.num_threads(threads):
            shared = [
                al.layer_norm(x, weight, weight),
                al.layer_norm(x, residual=residual),
                al.rms_norm(x, weight, eps=1e-5),
            ]
        assert [result.tobytes() for result in shared] == [result.tobytes() for result in alone]


@by_dtype
@pytest.mark.parametrize("dirt", [np.nan, np.inf, -np.inf])
def test_dirt_stays_in_its_row(dirt: float, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x = normal(rng, (6, 37), dtype)
    clean = np.delete(np.arange(6), 2)
    for norm in (al.layer_norm, al.rms_norm):
        expected = norm(x)
        dirty = x.copy()
        dirty[2, 36] = dirt
        result = norm(dirty)
        assert np.isnan(result[2].astype(np.float64)).any()
        assert result[clean].tobytes() == expected[clean].tobytes()


def test_refused() -> None:
    x = np.zeros((3, 4), np.float32)
    for norm, name in ((al.layer_norm, "layer_norm"), (al.rms_norm, "rms_norm")):
        for shape in ((3,), (), (3, 4)):
            with pytest.raises(ValueError, match=rf"(?s)^{name}.*weight"):
                norm(x, np.zeros(shape, np.float32))
        with pytest.raises(ValueError, match=rf"(?s)^{name}.*residual.*\(4, 4\)"):
            norm(x, residual=np.zeros((4, 4), np.float32))
        with pytest.raises(ValueError, match=rf"(?s)^{name}.*x"):
            norm(np.float32(1.0))
        for dtype in (np.int32, np.complex128, np.bool_):
            with pytest.raises(TypeError, match=rf"(?s)^{name}.*x.*{np.dtype(dtype).name}"):
                norm(np.zeros((3, 4), dtype))
            with pytest.raises(TypeError, match=rf"(?s)^{name}.*weight.*{np.dtype(dtype).name}"):
                norm(x, np.zeros(4, dtype))
            with pytest.raises(TypeError, match=rf"(?s)^{name}.*residual.*{np.dtype(dtype).name}"):
                norm(x, residual=np.zeros((3, 4), dtype))
    with pytest.raises(ValueError, match=r"(?s)^layer_norm.*bias"):
        al.layer_norm(x, None, np.zeros(3, np.float32))
