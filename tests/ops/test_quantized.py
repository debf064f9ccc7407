"""int8 and int4 weights: what they store, what products of them give, how far from the float product."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from arrays import BFLOAT16, FLOAT16, FLOAT32, LAYOUTS, epsilon, native, normal, same_bits
from processes import RunPython
from quantization import input_error, rounding_error, weight_error
from tolerance import assert_within

import attnlib as al

DTYPES = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}
by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
by_format = pytest.mark.parametrize("stored", ["int8", "int4"])
SHAPES = ((1, 1), (7, 17), (48, 64), (49, 65), (130, 33), (257, 129), (5, 3072))
ACTIVATIONS = (None, "relu", "gelu", "gelu_tanh", "silu", "tanh")


@by_format
@by_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_weights(shape: tuple[int, int], dtype: Any, stored: str, rng: np.random.Generator) -> None:
    """The nearest code each: at most half a step away."""
    weight = normal(rng, shape, dtype)
    packed = al.pack_weight(weight, dtype=stored)
    assert tuple(packed.shape) == shape
    assert packed.dtype == (np.dtype(np.int8) if stored == "int8" else np.dtype(ml_dtypes.int4))
    unpacked = packed.unpack()
    assert unpacked.dtype == FLOAT32
    exact = oracle.float64(weight)
    if stored == "int8":
        bound = weight_error(weight, packed)
    else:
        bound = np.empty(shape)
        for first in range(0, shape[1], 32):
            part = exact[:, first : first + 32]
            low, high = part.min(axis=1, keepdims=True), part.max(axis=1, keepdims=True)
            # Scale and minimum are rounded to float16: the codes' end may miss the maximum by 15 half units.
            half = 2.0**-11 * (np.abs(low) + (high - low)) + 16 * 2.0**-25
            bound[:, first : first + 32] = 0.5001 * (high - low) / 15 + half
    error = np.abs(oracle.float64(unpacked) - exact)
    assert (error <= bound).all(), f"{(error - bound).max()} beyond the bound"


@by_format
@by_dtype
@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 17, 33, 97])
def test_products(rows: int, dtype: Any, stored: str, rng: np.random.Generator) -> None:
    """Against the stored weight in float64: what is left is the input's quantisation."""
    for n, k in ((1, 1), (7, 3), (17, 32), (49, 65), (130, 384), (48, 1000)):
        weight, x = normal(rng, (n, k), FLOAT32, k**-0.5), normal(rng, (rows, k), dtype)
        packed = al.pack_weight(weight, dtype=stored)
        result = al.linear(x, packed)
        assert result.dtype == x.dtype
        group = None if stored == "int8" else 32
        bound = input_error(x, packed, group) + rounding_error(x, packed.unpack(), k // 32 + 1)
        assert_within(result, oracle.linear(x, packed.unpack()), bound, what=f"{rows} rows, {n} x {k}")


def assert_exact_sums(x: Any, weight: Any) -> None:
    """The sums of codes are exact; they, two scales and their product, and the stored weight are rounded."""
    packed = al.pack_weight(weight, dtype="int8")
    exact = oracle.float64(x) @ oracle.float64(packed.unpack()).T
    error = np.abs(al.linear(x, packed) - exact)
    assert (error <= 4 * epsilon(FLOAT32) * np.abs(exact)).all(), error.max()


def plus_or_minus_127(n: int, k: int, rng: np.random.Generator) -> Any:
    """Columns of one size: signs and order are random, the balance is then the same for all."""
    weight = np.where(rng.random((n, k)) < 0.5, -127.0, 127.0).astype(np.float32)
    weight[0], weight[1] = 127.0, -127.0  # as large as sums of a column come
    return weight


@pytest.mark.parametrize("n", [20, 64, 70, 100])
@pytest.mark.parametrize(
    ("k", "low"),
    [
        (1, 0),
        (4, 0),
        (63, 0),
        (384, -100),
        (1537, -255),
        (32768, -255),
        (32772, -255),
        (65536, -99),
        (65536, 0),
    ],
)
def test_int8_sums_are_exact(k: int, low: int, n: int, rng: np.random.Generator) -> None:
    """Inputs and weights that the codes hold exactly give exact results: no sum is rounded or saturates."""
    x = rng.integers(low, low + 256, (40, k)).astype(np.float32)
    x[3], x[4] = low + 255, low
    x[:, :3], x[:, 3:6] = low + 255, low  # three of each: none is an outlier where there are as many columns
    assert_exact_sums(x, plus_or_minus_127(n, k, rng))


@pytest.mark.parametrize("n", [16, 20, 64, 70, 100])
@pytest.mark.parametrize("k", [4, 5, 384, 1537, 32772])
def test_int8_outliers_are_exact(k: int, n: int, rng: np.random.Generator) -> None:
    """Steps of 1, and outliers as far away as any may be, in all columns, alone and in twos."""
    for end in (255.0, -255.0):
        x = np.zeros((40, k), np.float32)
        for row in range(len(x)):
            places = rng.permutation(k)
            x[row, places[3:]] = np.rint(end * rng.random(max(k - 3, 0)))
            x[row, places[:3]] = end
            if row % 4 == 0 and k > 4:  # the same two in many rows
                x[row, [1, k - 1]] = 128 * end, 100 * end
            elif row % 4 == 1 and k > 4:
                x[row, places[:2]] = 100 * end, 128 * end
                x[row, places[3:5]] = end
            else:
                x[row, [0, k - 1, k // 2][row % 3]] = 128 * end
            # The third largest is `end`, so steps are of 1.
            order = np.argsort(-np.abs(x[row]))
            x[row, order[np.abs(x[row, order]) <= 255][:1]] = end
        assert_exact_sums(x, plus_or_minus_127(n, k, rng))


def test_int8_outliers(rng: np.random.Generator) -> None:
    """Two huge values of a row are multiplied apart: the others keep their steps."""
    weight, x = normal(rng, (60, 384), FLOAT32), normal(rng, (30, 384), FLOAT32)
    packed = al.pack_weight(weight, dtype="int8")
    plain = np.linalg.norm(al.linear(x, packed) - oracle.linear(x, packed.unpack()), axis=1)
    columns = rng.integers(0, 384, (30, 2))
    with_outliers = x.copy()
    np.put_along_axis(
        with_outliers, columns, 60.0 * np.sign(rng.standard_normal((30, 2))).astype(np.float32), 1
    )
    exact = oracle.linear(with_outliers, packed.unpack())
    found = np.linalg.norm(al.linear(with_outliers, packed) - exact, axis=1)
    # An 18 times wider range would err 18 times as much; rows of one sign only have 0 as their other end.
    assert (found <= 2.5 * plain + 1e-6 * np.linalg.norm(exact, axis=1)).all()


def test_int8_more_outliers_than_are_multiplied_apart(rng: np.random.Generator) -> None:
    """Many large values, in one lane of the registers or in several: the range holds them all."""
    weight, x = normal(rng, (60, 384), FLOAT32), normal(rng, (4, 384), FLOAT32)
    x[0, [5, 21, 37]], x[1, ::16], x[2, [0, 1, 2, 383]], x[3, [9, 10]] = 50.0, -70.0, 1e4, [1e20, -1e3]
    packed = al.pack_weight(weight, dtype="int8")
    bound = input_error(x, packed, None) + rounding_error(x, packed.unpack(), 1)
    assert_within(al.linear(x, packed), oracle.linear(x, packed.unpack()), bound)


@by_format
@by_dtype
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_epilogues(activation: str | None, dtype: Any, stored: str, rng: np.random.Generator) -> None:
    """Bias, activation and residual come after: the same as for the product alone, in float32."""
    weight, bias = normal(rng, (53, 100), FLOAT32, 0.1), normal(rng, (53,), FLOAT32)
    packed = al.pack_weight(weight, dtype=stored)
    for rows in (1, 5, 40):
        x, residual = normal(rng, (rows, 100), FLOAT32), normal(rng, (rows, 53), FLOAT32)
        product = al.linear(x, packed)
        result = al.linear(x, packed, bias, activation=activation, residual=residual)
        exact = oracle.linear(product, np.eye(53), bias, activation, residual)
        assert_within(result, exact, 1e-5 * (1 + np.abs(exact)))
        narrow = al.linear(x.astype(dtype), packed, bias.astype(dtype), activation=activation)
        assert narrow.dtype == dtype


@by_format
def test_bits_do_not_move(stored: str, rng: np.random.Generator) -> None:
    """Not with the rows beside, nor with threads, layouts or out=."""
    x, weight = normal(rng, (331, 300), FLOAT32), normal(rng, (450, 300), FLOAT32)
    x[50, 3] = 40.0
    packed = al.pack_weight(weight, dtype=stored)
    together = al.linear(x, packed)
    for start, stop in ((0, 1), (7, 9), (40, 55), (60, 331)):
        assert same_bits(al.linear(x[start:stop], packed), together[start:stop])
    for threads in (1, 2, 3):
        with al.num_threads(threads):
            assert same_bits(al.linear(x, packed), together)
    for layout in LAYOUTS.values():
        assert same_bits(al.linear(layout(x), packed), al.linear(native(layout(x)), packed))
        assert same_bits(
            al.pack_weight(layout(weight), dtype=stored).unpack(),
            al.pack_weight(native(layout(weight)), dtype=stored).unpack(),
        )
    assert same_bits(al.linear(x.reshape(1, 331, 300), packed)[0], together)


RUNG = """
import hashlib, sys
import numpy as np, attnlib as al
from ml_dtypes import bfloat16
rng = np.random.default_rng(5)
digest = hashlib.sha256()
for rows, n, k in ((1, 70, 33), (17, 130, 384), (100, 49, 1000), (9, 20, 33000)):
    x = rng.standard_normal((rows, k)).astype(np.float32)
    x[0, 5:8] = 30.0  # three: none of them is an outlier; here are one, two in other lanes, one beyond codes
    more = ({k - 1: -40.0}, {3: 50.0, 20: -60.0}, {k - 2: 1e20}, {0: -1e9, 16: 1e9}, {5: -1e20})
    for row, outliers in enumerate(more, 1):
        for place, value in outliers.items():
            x[row % rows, place] = value
    weight = rng.standard_normal((n, k)).astype(np.float32)
    bias = rng.standard_normal(n).astype(np.float32)
    packed = al.pack_weight(weight, dtype="int8")
    residual = rng.standard_normal((rows, n)).astype(np.float32)
    finished = al.linear(x, packed, bias, activation="relu", residual=residual)
    for y in (packed.unpack(), al.linear(x, packed), finished):
        digest.update(y.tobytes())
for dtype in (np.float32, np.float16, bfloat16):  # rows that end anywhere in four registers
    for k in (1, 2, 3, 4, 15, 17, 31, 33, 63, 64, 65, 127, 129):
        x = rng.standard_normal((9, k)).astype(dtype)
        x[1, k - 1], x[2, k // 2], x[3], x[4] = 30.0, -60.0, 0.0, 2.0
        for n in (16, 20, 64, 100):
            packed = al.pack_weight(rng.standard_normal((n, k)).astype(np.float32), dtype="int8")
            digest.update(al.linear(x, packed).tobytes())
print(digest.hexdigest())
"""


def test_int8_has_the_same_bits_on_every_rung(run_python: RunPython) -> None:
    digests = {rung: run_python(RUNG, env={"ATTNLIB_ISA": rung}).stdout for rung in al.available_isas()}
    assert len(set(digests.values())) == 1, digests


@by_format
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_stays_in_its_row(bad: float, stored: str, rng: np.random.Generator) -> None:
    x, weight = normal(rng, (20, 70), FLOAT32), normal(rng, (60, 70), FLOAT32)
    packed = al.pack_weight(weight, dtype=stored)
    clean = al.linear(x, packed)
    x[7, 3] = x[11, 69] = bad
    result = al.linear(x, packed)
    assert np.isnan(result[[7, 11]]).all()
    others = np.setdiff1d(np.arange(20), [7, 11])
    assert same_bits(result[others], clean[others])


@by_format
def test_odd_weights(stored: str, rng: np.random.Generator) -> None:
    """Rows of zeros stay zero, a huge value costs its own row (group) alone, tiny numbers do no harm."""
    weight = normal(rng, (6, 64), FLOAT32)
    weight[0] = 0.0
    weight[2] = 1e-42
    weight[3, 5] = 3e4
    x = normal(rng, (4, 64), FLOAT32)
    packed = al.pack_weight(weight, dtype=stored)
    result = al.linear(x, packed)
    assert (result[:, 0] == 0.0).all()
    assert (packed.unpack()[0] == 0.0).all()
    assert np.isfinite(result).all()
    assert np.abs(result[:, 2]).max() <= 1e-6
    exact = oracle.linear(x, weight)
    others = np.linalg.norm(result[:, [1, 4, 5]] - exact[:, [1, 4, 5]]) / np.linalg.norm(exact[:, [1, 4, 5]])
    # Half a step of 255 (of 15) over a normal row, twice; the balance may move the huge column's neighbours.
    assert others <= (0.05 if stored == "int8" else 0.2)
    assert (al.linear(np.zeros((2, 64), np.float32), packed) == 0.0).all()
    assert (al.linear(np.full((2, 64), 1e-42, np.float32), packed) == 0.0).all()


@by_format
def test_extreme_inputs(stored: str, rng: np.random.Generator) -> None:
    """The whole range of float32, constant rows, rows of one sign."""
    weight = normal(rng, (20, 48), FLOAT32, 0.1)
    packed = al.pack_weight(weight, dtype=stored)
    for x in (
        np.full((3, 48), 3.0),
        np.full((3, 48), -7.0),
        np.arange(144).reshape(3, 48),
        np.full((1, 48), 1e30),
    ):
        rows = x.astype(np.float32)
        bound = input_error(rows, packed, None if stored == "int8" else 32)
        bound = bound + rounding_error(rows, packed.unpack(), 3)
        assert_within(al.linear(rows, packed), oracle.linear(rows, packed.unpack()), bound)
    wide = np.array([[3e38] * 24 + [-3e38] * 24], np.float32)
    assert not np.isnan(
        al.linear(wide, al.pack_weight(np.full((3, 48), 1e-3, np.float32), dtype=stored))
    ).any()


@by_format
def test_pickle_and_copy(stored: str, rng: np.random.Generator) -> None:
    weight, x = normal(rng, (49, 65), FLOAT32), normal(rng, (9, 65), FLOAT32)
    packed = al.pack_weight(weight, dtype=stored)
    for again in (pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed)):
        assert again.dtype == packed.dtype
        assert again.shape == packed.shape
        assert same_bits(again.unpack(), packed.unpack())
        assert same_bits(al.linear(x, again), al.linear(x, packed))


def test_group_size(rng: np.random.Generator) -> None:
    """Larger groups take less memory and err more; a last group may be shorter."""
    weight, x = normal(rng, (96, 200), FLOAT32), normal(rng, (3, 200), FLOAT32)
    exact = oracle.linear(x, weight)
    errors, sizes = [], []
    for size in (32, 64, 128):
        packed = al.pack_weight(weight, dtype="int4", group_size=size)
        bound = input_error(x, packed, size) + rounding_error(x, packed.unpack(), 200 // size + 1)
        assert_within(al.linear(x, packed), oracle.linear(x, packed.unpack()), bound)
        errors.append(np.linalg.norm(oracle.linear(x, packed.unpack()) - exact))
        sizes.append(packed.nbytes)
        assert pickle.loads(pickle.dumps(packed)).nbytes == packed.nbytes
    assert errors[0] < errors[1] < errors[2]
    assert al.pack_weight(weight, dtype="int4").nbytes == sizes[0]


def test_float64_takes_the_stored_weight(rng: np.random.Generator) -> None:
    """A float64 input is multiplied in float64, by what the weight stores."""
    x, weight = normal(rng, (5, 70), np.float64), normal(rng, (30, 70), FLOAT32)
    for stored in ("int8", "int4"):
        packed = al.pack_weight(weight, dtype=stored)
        result = al.linear(x, packed)
        assert result.dtype == np.float64
        assert_within(result, oracle.linear(x, packed.unpack()), 1e-12)


def test_empty() -> None:
    for stored in ("int8", "int4"):
        assert al.linear(
            np.zeros((0, 5), np.float32), al.pack_weight(np.ones((3, 5)), dtype=stored)
        ).shape == (0, 3)
        assert al.linear(
            np.zeros((2, 5), np.float32), al.pack_weight(np.ones((0, 5)), dtype=stored)
        ).shape == (2, 0)
        nothing = al.linear(np.zeros((2, 0), np.float32), al.pack_weight(np.ones((3, 0)), dtype=stored))
        assert nothing.tolist() == [[0.0] * 3] * 2


@by_format
def test_refused(stored: str) -> None:
    for bad in (np.nan, np.inf, -np.inf):
        weight = np.ones((3, 40), np.float32)
        weight[1, 33] = bad
        with pytest.raises(
            ValueError, match=rf"(?s)^pack_weight.*{'nan' if bad != bad else 'inf'}.*\[1, 33\].*{stored}"
        ):
            al.pack_weight(weight, dtype=stored)
    with pytest.raises(ValueError, match=r"(?s)^pack_weight.*65536.*\(1, 70000\)"):
        al.pack_weight(np.ones((1, 70000), np.float32), dtype=stored)
    with pytest.raises(ValueError, match=r"(?s)^pack_weight.*\(3,\)"):
        al.pack_weight(np.ones(3, np.float32), dtype=stored)
    with pytest.raises(TypeError, match="int32"):
        al.pack_weight(np.ones((3, 3), np.int32), dtype=stored)


def test_group_sizes_that_are_refused() -> None:
    weight = np.ones((3, 64), np.float32)
    for size in (0, -1, 1, 16, 48, 256):
        with pytest.raises(ValueError, match=rf"^pack_weight: group_size.*{size}"):
            al.pack_weight(weight, dtype="int4", group_size=size)
    for stored in (None, "float32", "int8"):
        with pytest.raises(ValueError, match=r"^pack_weight: group_size.*int4"):
            al.pack_weight(weight, dtype=stored, group_size=32)
    with pytest.raises(TypeError, match="group_size"):
        al.pack_weight(weight, dtype="int4", group_size=32.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="float16"):
        al.pack_weight(np.array([[1e6, 0.0]], np.float32), dtype="int4")
