"""linear: one pass over act(x @ weight.T + bias) + residual, with plain and packed weights."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import BFLOAT16, DTYPES, FULL, accumulator, epsilon, normal, same_bits
from tolerance import assert_within, linear_bound

import attnlib as al

ACTIVATIONS = (None, "relu", "gelu", "gelu_tanh", "silu", "tanh")
by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
packed_or_not = pytest.mark.parametrize("packed", [False, True], ids=("plain", "packed"))


def check(
    x: np.ndarray, weight: np.ndarray, bias: Any, activation: str | None, residual: Any, packed: bool
) -> None:
    given = al.pack_weight(weight) if packed else weight
    result = al.linear(x, given, bias, activation=activation, residual=residual)
    assert result.dtype == x.dtype
    bound = linear_bound(x, weight, bias, residual, epsilon(accumulator(x.dtype)))
    exact = oracle.linear(x, weight, bias, activation, residual)
    assert_within(result, exact, bound, what=f"{x.shape} x {weight.shape}, {activation}")


@packed_or_not
@by_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_epilogues(
    activation: str | None, dtype: np.dtype[Any], packed: bool, rng: np.random.Generator
) -> None:
    """Each activation with and without bias and residual, for few rows and for many."""
    for rows, with_bias, with_residual in product((1, 5, 40), (False, True), (False, True)):
        x, weight = normal(rng, (rows, 37), dtype), normal(rng, (53, 37), dtype, 37**-0.5)
        bias = normal(rng, (53,), dtype) if with_bias else None
        residual = normal(rng, (rows, 53), dtype) if with_residual else None
        check(x, weight, bias, activation, residual, packed)


@packed_or_not
@by_dtype
@pytest.mark.parametrize("rows", (0, 1, 2, 3, 5, 7, 8, 9, 13, 17, 33) if not FULL else range(70))
def test_every_remainder(rows: int, dtype: np.dtype[Any], packed: bool, rng: np.random.Generator) -> None:
    for n, k in product((0, 1, 7, 17, 49, 97, 129), (0, 1, 2, 17, 65)):
        check(
            normal(rng, (rows, k), dtype),
            normal(rng, (n, k), dtype),
            normal(rng, (n,), dtype),
            None,
            None,
            packed,
        )


@packed_or_not
@by_dtype
@pytest.mark.parametrize("k", [768, 3072, 5001])
def test_long_reductions(k: int, dtype: np.dtype[Any], packed: bool, rng: np.random.Generator) -> None:
    for rows, n in ((1, 130), (4, 33), (50, 70)):
        arrays = normal(rng, (rows, k), dtype), normal(rng, (n, k), dtype, k**-0.5), normal(rng, (n,), dtype)
        check(*arrays, "gelu", normal(rng, (rows, n), dtype), packed)


@packed_or_not
@pytest.mark.parametrize("shape", [(17,), (1, 17), (2, 3, 17), (2, 0, 17), (2, 1, 3, 17)], ids=str)
def test_leading_axes(shape: tuple[int, ...], packed: bool, rng: np.random.Generator) -> None:
    """x may have any number of them, none included."""
    x, weight = normal(rng, shape, np.float32), normal(rng, (6, 17), np.float32)
    residual = normal(rng, (*shape[:-1], 6), np.float32)
    check(x, weight, normal(rng, (6,), np.float32), "silu", residual, packed)


@by_dtype
@pytest.mark.parametrize("k", [62, 64])
def test_rows_that_begin_anywhere(k: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The same bits wherever in a cache line the rows begin, whether they are copied or read in place."""
    weight = al.pack_weight(normal(rng, (400, k), dtype, k**-0.5))
    results = []
    for rows, first, distance in ((33, 0, 64), (33, 1, 64), (33, 2, 66), (33, 8, 72), (31, 8, 72)):
        memory = np.zeros(34 * 72 + 64, dtype)
        x = memory[first:].reshape(-1)[: 33 * distance].reshape(33, distance)[:rows, :k]
        x[...] = normal(np.random.default_rng(5), (33, k), dtype)[:rows]
        results.append(al.linear(x, weight))
    for result in results[1:]:
        assert same_bits(result, results[0][: len(result)])


@pytest.mark.parametrize("packing", ["bfloat16", "int8"])
@pytest.mark.parametrize(("rows", "k"), [(1100, 40), (300, 6200), (300, 12400), (3300, 400)])
def test_rows_in_parts(rows: int, k: int, packing: str, rng: np.random.Generator) -> None:
    """A matrix unit takes as many rows at a time as fit into a cache: the same bits as each row by itself."""
    plain = normal(rng, (50, k), BFLOAT16, k**-0.5)
    weight = al.pack_weight(plain, dtype=packing)
    x = normal(rng, (rows, k + 3), BFLOAT16)[:, :k]
    x[rows - 5, 7] = 300.0  # an outlier of int8, in the last part
    bias, residual = normal(rng, (50,), BFLOAT16), normal(rng, (rows, 50), BFLOAT16)
    result = al.linear(x, weight, bias, residual=residual)
    for threads in (2, 3, 5):
        with al.num_threads(threads):
            assert same_bits(al.linear(x, weight, bias, residual=residual), result)
    with al.num_threads(1):
        assert same_bits(al.linear(x, weight, bias, residual=residual), result)
        for row in (0, 31, 32, 127, 128, 255, rows - 5, rows - 1):
            alone = al.linear(x[row : row + 1], weight, bias, residual=residual[row : row + 1])
            assert same_bits(alone[0], result[row])
    if packing == "bfloat16":
        check(x, plain, bias, None, residual, packed=True)


@packed_or_not
@by_dtype
def test_residual_in_place(dtype: np.dtype[Any], packed: bool, rng: np.random.Generator) -> None:
    """The residual stream's own idiom: out=residual."""
    x, weight, stream = (normal(rng, shape, dtype) for shape in ((33, 65), (50, 65), (33, 50)))
    weight = al.pack_weight(weight) if packed else weight
    expected = al.linear(x, weight, residual=stream)
    assert al.linear(x, weight, residual=stream, out=stream) is stream
    assert stream.tobytes() == expected.tobytes()


@by_dtype
def test_nan_stays_in_its_row(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    x, weight = normal(rng, (20, 19), dtype), normal(rng, (40, 19), dtype)
    x[7, 3], x[11, 18] = np.nan, np.inf
    for given in (weight, al.pack_weight(weight)):
        for activation in (None, "gelu"):
            finite = np.isfinite(oracle.float64(al.linear(x, given, activation=activation))).all(axis=-1)
            assert np.flatnonzero(~finite).tolist() == [7, 11]


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_bfloat16_weights_of_a_float32_input(rows: int, rng: np.random.Generator) -> None:
    """Weights held in bfloat16: the answer is that of the rounded weights, the result stays float32."""
    x, weight = normal(rng, (rows, 300), np.float32), normal(rng, (70, 300), np.float32)
    result = al.linear(x, al.pack_weight(weight, dtype="bfloat16"))
    assert result.dtype == np.float32
    rounded = weight.astype(BFLOAT16)
    bound = linear_bound(x, rounded, None, None, epsilon(np.float32))
    assert_within(result, oracle.linear(x, rounded), bound)


def test_values_that_do_not_fit() -> None:
    x, weight = np.zeros((2, 3), np.float32), np.zeros((5, 3), np.float32)
    with pytest.raises(ValueError, match=r"(?s)^linear.*weight.*\(5, 4\)"):
        al.linear(x, np.zeros((5, 4), np.float32))
    with pytest.raises(ValueError, match=r"(?s)^linear.*\(5, 4\)"):
        al.linear(x, al.pack_weight(np.zeros((5, 4), np.float32)))
    for shape in ((3,), (5, 3, 1)):
        with pytest.raises(ValueError, match=r"(?s)^linear.*weight"):
            al.linear(x, np.zeros(shape, np.float32))
    for shape in ((3,), (2, 5), ()):
        with pytest.raises(ValueError, match=r"(?s)^linear.*bias"):
            al.linear(x, weight, np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"(?s)^linear.*residual.*\(3, 5\)"):
        al.linear(x, weight, residual=np.zeros((3, 5), np.float32))
    with pytest.raises(ValueError, match=r"(?s)^linear.*activation.*swish"):
        al.linear(x, weight, activation="swish")
    with pytest.raises(ValueError, match=r"(?s)^linear.*x"):
        al.linear(np.zeros((), np.float32), weight)


@pytest.mark.parametrize("argument", ["x", "weight", "bias", "residual"])
@pytest.mark.parametrize(
    "dtype", [np.int32, np.uint16, np.complex64, np.bool_], ids=lambda d: np.dtype(d).name
)
def test_dtypes_that_do_not_fit(argument: str, dtype: Any) -> None:
    shapes = {"x": (2, 3), "weight": (5, 3), "bias": (5,), "residual": (2, 5)}
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    arrays[argument] = arrays[argument].astype(dtype)
    with pytest.raises(TypeError, match=f"(?s)^linear.*{argument}.*{np.dtype(dtype).name}"):
        al.linear(**arrays)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "shape", [(), (53,), (1,), (7, 1), (1, 53), (3, 1, 53), (3, 7, 1), (1, 7, 53)], ids=str
)
def test_a_residual_that_broadcasts(shape: tuple[int, ...], packed: bool, rng: np.random.Generator) -> None:
    """As in the formula, ``... + residual``."""
    x, weight = normal(rng, (3, 7, 30), np.float32), normal(rng, (53, 30), np.float32)
    residual = normal(rng, shape, np.float32)
    given = al.pack_weight(weight) if packed else weight
    expected = al.linear(x, given, residual=np.broadcast_to(residual, (3, 7, 53)).copy())
    assert same_bits(al.linear(x, given, residual=residual), expected)
