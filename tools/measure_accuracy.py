#!/usr/bin/env python3
"""Measure the largest error of each activation on each rung of this CPU, for docs/accuracy.md.

float32 is tried on 16 million numbers spread evenly over all bit patterns, float16 and bfloat16 on every
number, both against float64; float64 on 20,000 numbers against mpmath with 40 digits. An error is counted in
units in the last place (ULP) of the exact result: 0.5 is what rounding alone costs. There are two figures:
over all results, and over those of at least 1e-4, where no tail has been cut off.

    python tools/measure_accuracy.py > table.md
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import ml_dtypes
import mpmath
import numpy as np
from numpy.typing import NDArray

import attnlib as al

Array = NDArray[Any]
Function = Callable[[Array], Array]

_ERFC = np.vectorize(math.erfc, otypes=[np.float64])


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small / (1 + small), 1 / (1 + small))


def _tanh_argument(x: Array) -> Array:
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


# In float64, in forms that cancel nothing: an error of 1e-15 is no error beside a float32's.
EXACT: dict[str, Function] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "silu": lambda x: x * _sigmoid(x),
    "gelu": lambda x: x * 0.5 * _ERFC(-x / math.sqrt(2)),
    "gelu_tanh": lambda x: x * _sigmoid(2 * _tanh_argument(x)),
}
DIGITS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh": mpmath.tanh,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda x: x / (1 + mpmath.exp(-2 * mpmath.sqrt(2 / mpmath.pi) * (x + x**3 * 44715 / 10**6))),
}
MEASURED: dict[str, Function] = {
    "sigmoid": al.sigmoid,
    "tanh": al.tanh,
    "silu": al.silu,
    "gelu": al.gelu,
    "gelu_tanh": lambda x: al.gelu(x, approximate="tanh"),
}


def numbers(dtype: np.dtype[Any]) -> Array:
    """Finite numbers of all sizes, in a range in which no result overflows."""
    if dtype.itemsize == 2:
        found = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    elif dtype == np.float32:
        found = np.arange(0, 1 << 32, 257, dtype=np.uint32).view(np.float32)
    else:
        rng = np.random.default_rng(0)
        found = rng.choice((-1, 1), 20000) * np.exp(rng.uniform(-30, math.log(30), 20000))
    with np.errstate(invalid="ignore"):
        wide = found.astype(np.float64)
        return found[np.isfinite(wide) & (np.abs(wide) < 100)]


def spacing(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Tell how far apart numbers of `dtype` lie where `exact` is."""
    info = ml_dtypes.finfo(dtype)
    _, exponent = np.frexp(np.maximum(np.abs(exact), float(info.smallest_normal)))
    return np.ldexp(1.0, exponent - 1 - info.nmant)


def largest_errors(name: str, dtype: np.dtype[Any]) -> tuple[float, float]:
    """Find the largest error of a function in ULP: of all results, and of those that are not tiny."""
    x = numbers(dtype)
    found = MEASURED[name](x)
    if dtype != np.float64:
        exact = EXACT[name](x.astype(np.float64))
        errors = np.abs(found.astype(np.float64) - exact) / spacing(exact, dtype)
    else:
        mpmath.mp.dps = 40
        digits = [DIGITS[name](mpmath.mpf(float(value))) for value in x]
        exact = np.array([float(value) for value in digits])
        differences = [float(abs(mpmath.mpf(float(a)) - b)) for a, b in zip(found, digits, strict=True)]
        errors = np.array(differences) / spacing(exact, dtype)
    return float(errors.max()), float(errors[np.abs(exact) >= 1e-4].max())


def main() -> None:
    """Print a table with a line for each function and dtype, and a column for each rung."""
    dtypes = [np.dtype(kind) for kind in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)]
    if sys.argv[1:] == ["--this-rung"]:
        print(json.dumps([[largest_errors(name, dtype) for dtype in dtypes] for name in MEASURED]))
        return
    rungs = al.available_isas()
    found = {}
    for rung in rungs:
        run = subprocess.run(
            [sys.executable, __file__, "--this-rung"],
            env={**os.environ, "ATTNLIB_ISA": rung},
            check=True,
            stdout=subprocess.PIPE,
        )
        found[rung] = json.loads(run.stdout)
    print("| function | dtype | " + " | ".join(f"`{rung}`" for rung in rungs) + " |")
    print("|---|---|" + "---:|" * len(rungs))
    for row, name in enumerate(MEASURED):
        for column, dtype in enumerate(dtypes):
            pairs = (found[rung][row][column] for rung in rungs)
            errors = " | ".join(f"{everywhere:.3g}, {not_tiny:.3g}" for everywhere, not_tiny in pairs)
            print(f"| `{name}` | {dtype} | {errors} |")


if __name__ == "__main__":
    main()
