"""Any strides give the bits of the contiguous array: a sum depends on its length, not on its layout."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import DTYPES, FULL, LAYOUTS, native, same_bits
from cases import CASES, Case

WIDTHS = (1, 19, 70) if FULL else (19,)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_all_inputs(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for width in WIDTHS:
        contiguous = case.make(rng, dtype, width)
        for name, layout in LAYOUTS.items():
            inputs = {k: x if k.startswith("cu_seqlens") else layout(x) for k, x in contiguous.items()}
            plain = {k: native(x) for k, x in inputs.items()}
            result = case.call(inputs)
            assert result.dtype == dtype
            case.check(result, plain)
            assert same_bits(result, case.call(plain)), f"{name}: bits differ from those of contiguous inputs"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_each_input_alone(case: Case, rng: np.random.Generator) -> None:
    """One input in another layout beside contiguous ones."""
    inputs = case.make(rng, np.float32, 21)
    expected = case.call(inputs)
    for name in inputs:
        for layout in ("strided", "reversed_axes", "byte_swapped", "unaligned"):
            result = case.call(inputs | {name: LAYOUTS[layout](inputs[name])})
            assert same_bits(result, expected), f"{name} {layout}"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_strides_beyond_two_gigabytes(case: Case, rng: np.random.Generator) -> None:
    """Offsets need 64 bits; the untouched pages of the storage are never mapped."""
    inputs = case.make(rng, np.float32, 5)
    expected = case.call(inputs)
    far = {}
    for name, array in inputs.items():
        if array.dtype != np.float32 or array.ndim < 2 or array.shape[0] < 2:
            far[name] = array
            continue
        row = int(np.prod(array.shape[1:]))
        step = 2**31 // array.itemsize // (array.shape[0] - 1) + row
        storage = np.zeros(step * (array.shape[0] - 1) + row, np.float32)
        strides = (step * array.itemsize, *array.strides[1:])
        far[name] = np.lib.stride_tricks.as_strided(storage, array.shape, strides)
        far[name][...] = array
    assert same_bits(case.call(far), expected)
