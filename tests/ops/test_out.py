"""`out=`: written completely, whatever its strides; where it overlaps an input, as if it did not."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from arrays import DTYPES, native, normal, out_layouts, overlapping, same_bits
from cases import CASES, Case

import attnlib as al

WITH_OUT = [case for case in CASES if case.takes_out]
by_case = pytest.mark.parametrize("case", WITH_OUT, ids=str)
by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


@by_dtype
@by_case
def test_layouts(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for width in (0, 1, 19, 33):
        inputs = case.make(rng, dtype, width)
        expected = case.call(inputs)
        for name, out in out_layouts(expected.shape, dtype).items():
            assert case.call(inputs, out=out) is out
            assert same_bits(out, expected), f"out {name}, width {width}"


@by_dtype
@by_case
def test_neighbours_of_out_stay(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Nothing is written beside a strided out."""
    inputs = case.make(rng, dtype, 19)
    expected = case.call(inputs)
    storage = np.full((*expected.shape[:-1], 2 * expected.shape[-1] + 3), 7, dtype)
    case.call(inputs, out=storage[..., 1:-2:2])
    assert np.all(storage[..., 0::2] == 7)
    rows = np.full((*expected.shape[:-1], expected.shape[-1] + 3), 7, dtype)
    case.call(inputs, out=rows[..., 1:-2])
    assert np.all(rows[..., 0] == 7)
    assert np.all(rows[..., -2:] == 7)
    assert same_bits(native(rows[..., 1:-2]), expected)


@by_dtype
@by_case
def test_overlap(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """out begins at an input, or a few elements, a row, or half the input further on."""
    inputs = case.make(rng, dtype, 33)
    expected = case.call(inputs)
    for name, array in inputs.items():
        if array.dtype != dtype:
            continue
        for shift in (0, 1, 33, array.size // 2):
            inside, out = overlapping(array, expected.shape, shift)
            case.call(inputs | {name: inside}, out=out)
            assert same_bits(out, expected), f"out overlaps {name}, {shift} elements further on"


@by_dtype
@by_case
def test_input_behind_out(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """The input begins inside out."""
    inputs = case.make(rng, dtype, 33)
    expected = case.call(inputs)
    for name, array in inputs.items():
        if array.dtype != dtype:
            continue
        for shift in (1, 33):
            out, inside = overlapping(np.zeros_like(expected), array.shape, shift)
            inside[...] = array
            case.call(inputs | {name: inside}, out=out)
            assert same_bits(out, expected), f"{name} begins {shift} elements into out"


@by_case
def test_reversed_input_as_out(case: Case, rng: np.random.Generator) -> None:
    inputs = case.make(rng, np.float32, 33)
    expected = case.call(inputs)
    for name, array in inputs.items():
        if array.shape == expected.shape and array.dtype == expected.dtype:
            inside = array.copy()
            case.call(inputs | {name: inside}, out=inside[::-1, ..., ::-1])
            assert same_bits(inside[::-1, ..., ::-1], expected), name


@by_case
def test_overlap_of_a_large_call(case: Case, rng: np.random.Generator) -> None:
    """In place, and shifted, where several threads and tiles are at work."""
    inputs = case.make(rng, np.float32, case.large // 2)
    expected = case.call(inputs)
    for name, array in inputs.items():
        if array.dtype != np.float32:
            continue
        inside, out = overlapping(array, expected.shape, 5)
        case.call(inputs | {name: inside}, out=out)
        assert same_bits(out, expected), name


@by_dtype
@by_case
def test_refused(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    inputs = case.make(rng, dtype, 5)
    expected = case.call(inputs)
    read_only = np.empty_like(expected)
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="out"):
        case.call(inputs, out=read_only)
    for shape in ((*expected.shape[:-1], expected.shape[-1] + 1), expected.shape[1:], (1, *expected.shape)):
        with pytest.raises(ValueError, match=r"(?s)out.*\d"):
            case.call(inputs, out=np.empty(shape, dtype))
    for other in (*DTYPES.values(), np.dtype(np.int32), np.dtype(np.complex64), np.dtype(object)):
        if other != dtype:
            with pytest.raises(TypeError, match=f"(?s)out.*{other.name}"):
                case.call(inputs, out=np.empty(expected.shape, other))
    with pytest.raises(TypeError, match="out"):
        case.call(inputs, out=expected.tolist())


@by_case
def test_masked_out_is_refused(case: Case, rng: np.random.Generator) -> None:
    """Its mask would hide results."""
    inputs = case.make(rng, np.float32, 5)
    with pytest.raises(TypeError, match="out"):
        case.call(inputs, out=np.ma.masked_array(case.call(inputs)))


@pytest.mark.parametrize("flip", [False, True])
def test_a_mask_that_lies_in_out(flip: bool, rng: np.random.Generator) -> None:
    x = normal(rng, (2, 64, 64), np.float32)
    out = np.zeros((2, 64, 64), np.float32)
    bytes_of_out = out.view(np.bool_)[0].reshape(64, 64, 4)[..., 3]  # one of each element's four
    mask = bytes_of_out[::-1] if flip else bytes_of_out
    allowed = rng.random(mask.shape) < 0.5
    for call in (al.softmax, partial(al.attention, x, x)):
        out[...] = 0
        mask[...] = allowed
        expected = call(x, mask=allowed)
        call(x, mask=mask, out=out)
        assert same_bits(out, expected)
