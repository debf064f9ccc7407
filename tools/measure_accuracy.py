#!/usr/bin/env python3
"""Measure the largest errors of activations and row-wise operations on each rung, for docs/accuracy.md.

An error is counted in units in the last place (ULP) of the exact result: 0.5 is what rounding alone costs.

activations: float32 is tried on 16 million numbers spread evenly over all bit patterns, float16 and bfloat16
on every number, both against float64; float64 on 20,000 numbers against mpmath with 40 digits. There are two
figures: over all results, and over those of at least 1e-4, where no tail has been cut off.

rows: random normal rows of many lengths and sizes, against float64; float64 against long double, which has 64
bits of precision on x86. softmax has two figures: over all results that are normal numbers of the compute
dtype, and over those of at least 1e-4 of the largest in their row. Where a result may cancel, so that near
zero it has no true digit of its own, the error is in ULP of the row's largest result, for rotary_embedding in
ULP of the length of the vector (x1, x2) that is turned.

    python tools/measure_accuracy.py activations > table.md  # minutes
    python tools/measure_accuracy.py rows > table.md         # a minute
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
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
# In mpmath's numbers.
DIGITS: dict[str, Callable[[Any, Any], Any]] = {
    "sigmoid": lambda mp, x: 1 / (1 + mp.exp(-x)),
    "tanh": lambda mp, x: mp.tanh(x),
    "silu": lambda mp, x: x / (1 + mp.exp(-x)),
    "gelu": lambda mp, x: x * mp.erfc(-x / mp.sqrt(2)) / 2,
    "gelu_tanh": lambda mp, x: x / (1 + mp.exp(-2 * mp.sqrt(2 / mp.pi) * (x + x**3 * 44715 / 10**6))),
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
    _, exponent = np.frexp(np.maximum(np.abs(exact).astype(np.float64), float(info.smallest_normal)))
    return np.ldexp(1.0, exponent - 1 - info.nmant)


def activation_errors(name: str, dtype: np.dtype[Any]) -> list[float]:
    """Find the largest error of a function in ULP: of all results, and of those that are not tiny."""
    x = numbers(dtype)
    found = MEASURED[name](x)
    if dtype != np.float64:
        exact = EXACT[name](x.astype(np.float64))
        errors = np.abs(found.astype(np.float64) - exact) / spacing(exact, dtype)
    else:
        import mpmath

        with mpmath.workdps(40):
            digits = [DIGITS[name](mpmath, mpmath.mpf(float(value))) for value in x]
            exact = np.array([float(value) for value in digits])
            differences = [float(abs(mpmath.mpf(float(a)) - b)) for a, b in zip(found, digits, strict=True)]
        errors = np.array(differences) / spacing(exact, dtype)
    return [float(errors.max()), float(errors[np.abs(exact) >= 1e-4].max())]


# Odd ones, ones around a register or a power of two, models' own, and one that is summed in parts.
LENGTHS = (1, 2, 3, 7, 15, 17, 33, 63, 65, 127, 129, 255, 384, 511, 768, 1023, 1025, 2047, 4097, 9001)
HEAD_SIZES = (2, 6, 10, 16, 30, 34, 64, 66, 80, 126, 128, 130, 256)
# Without the shortest: where two or three numbers are nearly equal, the error is that of their difference.
NORM_LENGTHS = LENGTHS[4:]
NUMBERS = 1 << 17  # of each length
EPS = 1e-5


def random_rows(
    dtype: np.dtype[Any], lengths: tuple[int, ...], smallest: float, largest: float, mean: float = 0.0
) -> Iterator[Array]:
    """Make normal rows: each has a standard deviation of its own, and a mean of so many of them."""
    rng = np.random.default_rng(0)
    for length in lengths:
        rows = NUMBERS // length
        deviation = np.exp(rng.uniform(math.log(smallest), math.log(largest), (rows, 1)))
        yield (deviation * (mean + rng.standard_normal((rows, length)))).astype(dtype)


def _wide(x: Array) -> Array:
    return x.astype(np.longdouble if x.dtype == np.float64 else np.float64)


def _errors(found: Array, exact: Array, measure: Array) -> Array:
    """Count errors in ULP of `measure`, which broadcasts."""
    return np.abs(found.astype(exact.dtype) - exact).astype(np.float64) / spacing(measure, found.dtype)


def _row_largest(exact: Array) -> Array:
    largest: Array = np.abs(exact).max(axis=-1, keepdims=True)
    return largest


def softmax_errors(dtype: np.dtype[Any]) -> list[float]:
    """Measure softmax: in ULP of each result, of all that do not underflow and of those that are not tiny."""
    smallest = np.finfo(np.float64 if dtype == np.float64 else np.float32).smallest_normal
    everywhere = not_tiny = 0.0
    for x in random_rows(dtype, LENGTHS, 0.01, 30):
        wide = _wide(x)
        powers = np.exp(wide - wide.max(axis=-1, keepdims=True))
        exact = powers / powers.sum(axis=-1, keepdims=True)
        errors = _errors(al.softmax(x), exact, exact)
        everywhere = max(everywhere, float(errors[exact >= smallest].max()))
        not_tiny = max(not_tiny, float(errors[powers >= 1e-4].max()))
    return [everywhere, not_tiny]


def log_softmax_errors(dtype: np.dtype[Any]) -> list[float]:
    """Measure log_softmax: in ULP of the row's largest result."""
    worst = 0.0
    for x in random_rows(dtype, LENGTHS, 0.01, 30):
        wide = _wide(x)
        below = wide - wide.max(axis=-1, keepdims=True)
        exact = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
        worst = max(worst, float(_errors(al.log_softmax(x), exact, _row_largest(exact)).max()))
    return [worst]


def _parameters(dtype: np.dtype[Any], length: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(length)
    return rng.standard_normal(length).astype(dtype), rng.standard_normal(length).astype(dtype)


def layer_norm_errors(dtype: np.dtype[Any], mean: float = 0.0) -> list[float]:
    """Measure layer_norm with weight and bias: in ULP of the row's largest result."""
    worst = 0.0
    for x in random_rows(dtype, NORM_LENGTHS, 1e-3, 100, mean):
        weight, bias = _parameters(dtype, x.shape[-1])
        wide = _wide(x)
        centred = wide - wide.mean(axis=-1, keepdims=True)
        deviation = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True) + EPS)
        exact = centred / deviation * _wide(weight) + _wide(bias)
        found = al.layer_norm(x, weight, bias, eps=EPS)
        worst = max(worst, float(_errors(found, exact, _row_largest(exact)).max()))
    return [worst]


def rms_norm_errors(dtype: np.dtype[Any]) -> list[float]:
    """Measure rms_norm with a weight: in ULP of each result, since nothing cancels."""
    worst = 0.0
    for x in random_rows(dtype, LENGTHS, 1e-3, 100):
        weight, _ = _parameters(dtype, x.shape[-1])
        wide = _wide(x)
        exact = wide / np.sqrt(np.square(wide).mean(axis=-1, keepdims=True) + EPS) * _wide(weight)
        worst = max(worst, float(_errors(al.rms_norm(x, weight, eps=EPS), exact, exact).max()))
    return [worst]


def rotary_errors(dtype: np.dtype[Any]) -> list[float]:
    """Measure rotary_embedding, in both layouts, by the tables as given: in ULP of a plane's length."""
    worst = 0.0
    for x in random_rows(dtype, HEAD_SIZES, 1e-3, 100):
        half = x.shape[-1] // 2
        angles = np.random.default_rng(half).uniform(0, 2 * math.pi, (len(x), half))
        cos, sin = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
        for interleaved in (False, True):
            first = np.s_[:, ::2] if interleaved else np.s_[:, :half]
            second = np.s_[:, 1::2] if interleaved else np.s_[:, half:]
            found = al.rotary_embedding(x, cos, sin, interleaved=interleaved)
            a, b, c, s = _wide(x[first]), _wide(x[second]), _wide(cos), _wide(sin)
            length = np.hypot(a, b)
            for part, exact in ((first, a * c - b * s), (second, b * c + a * s)):
                worst = max(worst, float(_errors(found[part], exact, length).max()))
    return [worst]


# What a line of a table is called, and what measures it for a dtype.
Line = tuple[str, Callable[[np.dtype[Any]], list[float]]]
TABLES: dict[str, list[Line]] = {
    "activations": [
        (f"`{name}`", lambda dtype, name=name: activation_errors(name, dtype)) for name in MEASURED
    ],
    "rows": [
        ("`softmax`", softmax_errors),
        ("`log_softmax`", log_softmax_errors),
        ("`layer_norm`", layer_norm_errors),
        ("`layer_norm`, mean of 100 deviations", lambda dtype: layer_norm_errors(dtype, 100.0)),
        ("`rms_norm`", rms_norm_errors),
        ("`rotary_embedding`", rotary_errors),
    ],
}


def main() -> None:
    """Print a table with a line for each function and dtype, and a column for each rung."""
    parser = argparse.ArgumentParser(description="Measure the largest errors, for docs/accuracy.md.")
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--this-rung", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    lines = TABLES[options.table]
    dtypes = [np.dtype(kind) for kind in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16)]
    if options.this_rung:
        print(json.dumps([[errors(dtype) for dtype in dtypes] for _, errors in lines]))
        return
    rungs = al.available_isas()
    found = {}
    for rung in rungs:
        run = subprocess.run(
            [sys.executable, __file__, options.table, "--this-rung"],
            env={**os.environ, "ATTNLIB_ISA": rung},
            check=True,
            stdout=subprocess.PIPE,
        )
        found[rung] = json.loads(run.stdout)
    print("| function | dtype | " + " | ".join(f"`{rung}`" for rung in rungs) + " |")
    print("|---|---|" + "---:|" * len(rungs))
    for row, (name, _) in enumerate(lines):
        for column, dtype in enumerate(dtypes):
            figures = (found[rung][row][column] for rung in rungs)
            cells = " | ".join(", ".join(f"{figure:.3g}" for figure in cell) for cell in figures)
            print(f"| {name} | {dtype} | {cells} |")


if __name__ == "__main__":
    main()
