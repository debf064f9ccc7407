"""PackedWeight: what goes in comes out, in memory, through pickle, and for weights of any layout."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from arrays import BFLOAT16, DTYPES, FLOAT16, FLOAT32, FLOAT64, LAYOUTS, native, normal, same_bits

import attnlib as al

SHAPES = ((0, 0), (0, 5), (5, 0), (1, 1), (7, 17), (48, 64), (49, 65), (130, 33), (257, 129))
by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


@by_dtype
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(shape: tuple[int, int], dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Packing moves numbers and, without a dtype, changes none."""
    weight = normal(rng, shape, dtype)
    packed = al.pack_weight(weight)
    assert isinstance(packed, al.PackedWeight)
    assert tuple(packed.shape) == shape
    assert np.array_equal(packed.unpack().astype(np.float64), weight.astype(np.float64))
    if dtype != FLOAT16:  # the contract lists no packed float16
        assert np.dtype(packed.dtype) == dtype
        assert packed.unpack().dtype == dtype
    assert packed.nbytes >= weight.size * np.dtype(packed.dtype).itemsize


@by_dtype
@pytest.mark.parametrize("target", [FLOAT32, FLOAT64, BFLOAT16], ids=str)
def test_conversion(dtype: np.dtype[Any], target: np.dtype[Any], rng: np.random.Generator) -> None:
    """To another dtype: rounded to nearest, as NumPy's own conversion does."""
    weight = normal(rng, (49, 33), dtype)
    packed = al.pack_weight(weight, dtype=target.name)
    assert np.dtype(packed.dtype) == target
    assert same_bits(packed.unpack(), weight.astype(target))


def test_bfloat16_ties_and_specials() -> None:
    """Ties go to even; infinities and NaN stay what they are; the largest float32 rounds to infinity."""
    bits = np.array(
        [0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x00008000, 0x00018000, 0x7F7FFFFF], np.uint32
    )
    values = np.concatenate(
        [bits.view(np.float32), -bits.view(np.float32), [np.inf, -np.inf, np.nan, 0.0, -0.0]]
    )
    weight = values.astype(np.float32)[None]
    with np.errstate(over="ignore", invalid="ignore"):
        unpacked = al.pack_weight(weight, dtype="bfloat16").unpack()
        expected = weight.astype(BFLOAT16)
    assert np.array_equal(unpacked.astype(np.float32), expected.astype(np.float32), equal_nan=True)


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    weight = LAYOUTS[layout](normal(rng, (49, 33), dtype))
    unpacked = al.pack_weight(weight).unpack()
    assert np.array_equal(unpacked.astype(np.float64), native(weight).astype(np.float64))


@by_dtype
def test_a_copy_not_a_view(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    weight = normal(rng, (20, 30), dtype)
    packed, before = al.pack_weight(weight), weight.copy()
    weight[...] = 0
    packed.unpack()[...] = 0
    assert np.array_equal(packed.unpack().astype(np.float64), before.astype(np.float64))


@by_dtype
def test_pickle_and_copy(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    weight, x = normal(rng, (49, 65), dtype), normal(rng, (9, 65), dtype)
    packed = al.pack_weight(weight)
    expected = al.linear(x, packed)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(packed, protocol))
        assert tuple(again.shape) == (49, 65)
        assert np.dtype(again.dtype) == np.dtype(packed.dtype)
        assert same_bits(al.linear(x, again), expected)
    assert same_bits(al.linear(x, copy.copy(packed)), expected)
    assert same_bits(al.linear(x, copy.deepcopy(packed)), expected)


@by_dtype
def test_same_bits_as_the_plain_weight(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """An element's sum depends on its length alone, so packing does not move it."""
    weight, bias = normal(rng, (100, 65), dtype), normal(rng, (100,), dtype)
    packed = al.pack_weight(weight)
    for rows in (1, 2, 5, 40, 130):
        x = normal(rng, (rows, 65), dtype)
        assert same_bits(al.linear(x, packed, bias), al.linear(x, weight, bias)), f"{rows} rows"


def test_refused() -> None:
    for shape in ((), (3,), (2, 3, 4)):
        with pytest.raises(ValueError, match=r"(?s)^pack_weight.*weight"):
            al.pack_weight(np.zeros(shape, np.float32))
    for dtype in (np.int8, np.uint16, np.complex64, np.bool_, object):
        with pytest.raises(TypeError, match=f"(?s)^pack_weight.*weight.*{np.dtype(dtype).name}"):
            al.pack_weight(np.zeros((2, 3), dtype))
    for name in ("float8", "complex64", "", "int32"):
        with pytest.raises((TypeError, ValueError), match=r"(?s)^pack_weight.*dtype"):
            al.pack_weight(np.zeros((2, 3), np.float32), dtype=name)


def test_an_object_that_was_never_made() -> None:
    """``__new__`` alone makes no weight: an error, not a read of memory that nobody wrote."""
    weight_class = al.PackedWeight
    bare = weight_class.__new__(weight_class)
    for use in (repr, pickle.dumps, lambda w: w.shape, lambda w: w.unpack(), lambda w: w.rows(0, 1)):
        with pytest.raises(RuntimeError):
            use(bare)
        with pytest.raises(RuntimeError):
            al.linear(np.ones((1, 1), np.float32), bare)
    for method in (weight_class.unpack, weight_class._stored, weight_class.__repr__):
        with pytest.raises(TypeError):
            method(None)  # type: ignore[arg-type]


def test_a_damaged_pickle_is_refused() -> None:
    """What pack_weight refuses, or could not have made, does not come in by another way."""
    state = list(al.pack_weight(np.ones((2, 64), np.float32), dtype="int4").__getstate__())
    weight_class = al.PackedWeight
    state[2] = state[2] | 0xF0  # codes of four bits
    with pytest.raises(ValueError, match="pickled state is damaged"):
        weight_class.__new__(weight_class).__setstate__(tuple(state))
    columns = 65537  # int32 sums hold products of 65536
    ones = np.ones((1, columns), np.uint8)
    too_long = ("int8", 32, ones, np.ones((1, 1), np.float32), np.ones((1, columns), np.float32))
    with pytest.raises(ValueError, match="at most 65536 in_features"):
        weight_class.__new__(weight_class).__setstate__(too_long)


def test_no_features_and_no_end_of_rows() -> None:
    assert al.pack_weight(np.empty((2**40, 0), np.float32)).shape == (2**40, 0)
