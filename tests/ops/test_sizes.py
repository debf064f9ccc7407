"""Every operation, every dtype, sizes around every vector and tile width, zero included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from arrays import DTYPES, SIZES
from cases import CASES, Case


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sizes(case: Case, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for size in SIZES:
        inputs = case.make(rng, dtype, size)
        before = {name: array.copy() for name, array in inputs.items()}
        result = case.call(inputs)
        assert type(result) is np.ndarray
        assert result.dtype == dtype
        case.check(result, inputs)
        for name, array in inputs.items():
            assert array.tobytes() == before[name].tobytes(), f"{name} of size {size} was written to"
