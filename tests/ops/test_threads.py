"""Work that is split between threads is right for 1, 2 and 3 of them (equal bits: test_determinism.py)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import DTYPES
from cases import CASES, Case
from tolerance import assert_within

import attnlib as al


@pytest.mark.parametrize("dtype", [DTYPES["float32"], DTYPES["bfloat16"]], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_threads(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    inputs = case.make(rng, dtype, case.large // 2)
    exact, bound = case.exact(inputs, 2.0**-23)
    for threads in (1, 2, 3):
        with al.num_threads(threads):
            result = case.call(inputs)
        assert_within(result, exact, bound, what=case.name)
