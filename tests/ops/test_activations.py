"""Activations: every float16 and bfloat16 there is, float32 and float64 over their range, special values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, accumulator, epsilon, normal, same_bits
from tolerance import activation_bound, assert_within

import attnlib as al

Function = Callable[..., Any]

ACTIVATIONS: dict[str, tuple[Function, Function]] = {
    "relu": (al.relu, oracle.relu),
    "gelu": (al.gelu, oracle.gelu),
    "gelu_tanh": (lambda x: al.gelu(x, "tanh"), lambda x: oracle.gelu(x, "tanh")),
    "silu": (al.silu, oracle.silu),
    "tanh": (al.tanh, oracle.tanh),
    "sigmoid": (al.sigmoid, oracle.sigmoid),
}
by_name = pytest.mark.parametrize("name", ACTIVATIONS)
by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def whole_range(dtype: np.dtype[Any], rng: np.random.Generator) -> np.ndarray:
    """Every finite number of a 16-bit dtype; for the wider ones, samples of every binade."""
    if dtype in (FLOAT16, BFLOAT16):
        every = np.arange(65536, dtype=np.uint16).view(dtype)
        with np.errstate(invalid="ignore"):  # some are signalling NaNs: aarch64 tells
            return every[np.isfinite(every.astype(np.float32))]
    lowest, highest = (-126, 127) if dtype == FLOAT32 else (-300, 100)  # the oracle's x**3 must fit float64
    wide = np.exp2(rng.uniform(lowest, highest, 10000))
    near = rng.uniform(0, 1, 10000) * rng.choice([0.01, 1.0, 10.0, 100.0], 10000)
    values = np.concatenate([wide, near])
    return np.concatenate([values, -values]).astype(dtype)


@by_dtype
@by_name
def test_whole_range(name: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    function, exact_function = ACTIVATIONS[name]
    x = whole_range(dtype, rng)
    exact = exact_function(x)
    result = function(x)
    assert result.dtype == dtype
    assert_within(result, exact, activation_bound(name, x, exact, epsilon(accumulator(dtype))), what=name)


@by_dtype
@by_name
def test_special_values(name: str, dtype: np.dtype[Any]) -> None:
    """NaN stays NaN among clean neighbours; +inf and zeros go where the limits are."""
    function, _ = ACTIVATIONS[name]
    for width in (1, 5, 16, 33):
        x = np.ones(width, dtype)
        x[width // 2] = np.nan
        result = function(x).astype(np.float64)
        assert np.flatnonzero(np.isnan(result)).tolist() == [width // 2]
    limits = {"tanh": (1.0, -1.0), "sigmoid": (1.0, 0.0), "relu": (np.inf, 0.0)}
    above, below = limits.get(name, (np.inf, None))
    result = function(np.array([np.inf, -np.inf, 0.0], dtype)).astype(np.float64)
    assert result[0] == above
    assert below is None or result[1] == below  # PyTorch's GELU and SiLU of -inf are NaN, the limit is 0
    assert result[2] == (0.5 if name == "sigmoid" else 0.0)


@by_dtype
def test_signs_of_zero_and_symmetry(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """tanh is odd to the bit, and keeps the sign of zero."""
    x = normal(rng, (1000,), dtype, 2.0)
    assert np.array_equal(al.tanh(-x).astype(np.float64), -al.tanh(x).astype(np.float64))
    assert np.signbit(al.tanh(np.array([-0.0], dtype)).astype(np.float64))[0]


@by_dtype
@by_name
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (2, 3, 4, 5)], ids=str)
def test_shapes(shape: tuple[int, ...], name: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    function, exact_function = ACTIVATIONS[name]
    x = normal(rng, shape, dtype)
    result = function(x)
    exact = exact_function(x)
    assert_within(result, exact, activation_bound(name, x, exact, epsilon(accumulator(dtype))), what=name)


def test_gelu_forms(rng: np.random.Generator) -> None:
    x = normal(rng, (50,), np.float64)
    assert al.gelu(x).tobytes() == al.gelu(x, "none").tobytes() == al.gelu(x, approximate="none").tobytes()
    assert al.gelu(x, "tanh").tobytes() != al.gelu(x).tobytes()
    for form in ("erf", "", "TANH"):
        with pytest.raises(ValueError, match=r"(?s)^gelu.*approximate"):
            al.gelu(x, form)


@by_dtype
def test_swiglu_range(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    gate, up = normal(rng, (5, 70), dtype, 20.0), normal(rng, (5, 70), dtype)
    exact = oracle.swiglu(gate, up)
    bound = (10 + 2 * np.abs(oracle.float64(gate))) * epsilon(accumulator(dtype)) * np.abs(exact)
    assert_within(al.swiglu(gate, up), exact, bound + 1e-36)


def test_swiglu_refuses() -> None:
    x = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match=r"(?s)^swiglu.*up.*\(3, 5\)"):
        al.swiglu(x, np.zeros((3, 5), np.float32))
    with pytest.raises(TypeError, match=r"(?s)^swiglu.*gate.*int64"):
        al.swiglu(np.zeros((3, 4), np.int64), x)
    with pytest.raises(TypeError, match=r"(?s)^swiglu.*up.*int64"):
        al.swiglu(x, np.zeros((3, 4), np.int64))


@by_name
@pytest.mark.parametrize(
    "dtype", [np.int8, np.int64, np.uint16, np.bool_, np.complex64, object, np.str_, np.longdouble]
)
def test_dtypes_that_do_not_fit(dtype: Any, name: str) -> None:
    function, _ = ACTIVATIONS[name]
    operation = name.removesuffix("_tanh")
    found = "(<U|str)" if dtype is np.str_ else np.dtype(dtype).name
    with pytest.raises(TypeError, match=f"(?s)^{operation}.*x.*{found}"):
        function(np.zeros(3).astype(dtype))


def test_float64_is_not_float32(rng: np.random.Generator) -> None:
    """A float64 result carries float64's digits."""
    x = normal(rng, (100,), FLOAT64)
    for function, _ in list(ACTIVATIONS.values())[1:]:
        result = function(x)
        assert np.any(result != result.astype(np.float32))


@by_dtype
def test_results_keep_the_order_of_memory(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """As NumPy's functions do: what is contiguous along another axis than the last is read in place."""
    storage = normal(rng, (3, 1, 5, 37), dtype)
    for axes in ((0, 1, 3, 2), (3, 2, 1, 0), (1, 3, 0, 2)):
        for view in (storage, storage[::2, :, 1:, 3:], storage[..., ::-1, :], storage[::-1]):
            x = view.transpose(axes)
            contiguous = np.ascontiguousarray(x)
            for function, inputs in ((al.gelu, 1), (al.tanh, 1), (al.swiglu, 2)):
                expected = function(*[contiguous] * inputs)
                result = function(*[x] * inputs)
                record = al.last_dispatch()
                assert record is not None
                assert record.notes == ()
                as_numpy = zip(x.shape, result.strides, np.positive(x).strides, strict=True)
                assert all(ours == theirs for extent, ours, theirs in as_numpy if extent > 1)
                assert same_bits(result, expected)
                for out in (
                    np.empty_like(x),
                    np.empty_like(expected),
                    np.zeros((*x.shape, 2), dtype)[..., 1],
                ):
                    assert function(*[x] * inputs, out=out) is out
                    assert same_bits(out, expected)


def test_memory_orders_that_do_not_agree(rng: np.random.Generator) -> None:
    x = normal(rng, (7, 19), FLOAT32)
    expected = al.swiglu(x, x)
    columns = np.asfortranarray(x)
    assert same_bits(al.swiglu(columns, x), expected)
    assert same_bits(al.swiglu(x, columns), expected)
    assert same_bits(al.swiglu(columns, columns.astype(FLOAT64)), al.swiglu(x, x.astype(FLOAT64)))
    assert same_bits(al.swiglu(columns, columns[:, :1]), al.swiglu(x, x[:, :1]))
    repeated = np.broadcast_to(x[:, :1], (7, 19))
    assert same_bits(al.gelu(repeated.T), al.gelu(np.ascontiguousarray(repeated.T)))


def test_in_place_in_the_order_of_memory(rng: np.random.Generator) -> None:
    x = np.asfortranarray(normal(rng, (7, 19), FLOAT32))
    expected = al.gelu(np.ascontiguousarray(x))
    assert al.gelu(x, out=x) is x
    assert same_bits(x, expected)
    shifted = np.asfortranarray(normal(rng, (8, 19), FLOAT32))
    expected = al.gelu(np.ascontiguousarray(shifted[1:]))
    al.gelu(shifted[1:], out=shifted[:-1])
    assert same_bits(shifted[:-1], expected)
