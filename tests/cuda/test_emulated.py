"""The CUDA kernels run on the CPU, thread by thread (tests/cuda/emulation), against float64.

What is tested is the very source that nvcc compiles: index arithmetic, tiles and tails, barriers, the online
softmax. Only tensor cores, threads and barriers themselves are replaced.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import BFLOAT16, DTYPES, FLOAT16, FLOAT32, epsilon, normal
from tolerance import assert_within, attention_bounds, matmul_bound, softmax_bound

Array = np.ndarray[Any, np.dtype[Any]]
HERE = Path(__file__).parent
CODES = {"float32": 0, "float16": 2, "bfloat16": 3}


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        pytest.skip("no C++ compiler (g++, or CXX) to compile the emulation with")
    library = tmp_path_factory.mktemp("emulation") / "kernels.so"
    sources = HERE.parents[1] / "src" / "cpp"
    command = [compiler, "-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += [f"-I{sources}", f"-I{sources / 'include'}", str(HERE / "emulation" / "kernels.cpp")]
    result = subprocess.run([*command, "-o", str(library)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-4000:]
    return ctypes.CDLL(str(library))


def integers(*values: int) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


def steps(*arrays: Array) -> list[int]:
    return [stride // array.itemsize for array in arrays for stride in array.strides]


def address(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def attention(kernels: ctypes.CDLL, q: Array, k: Array, v: Array, **options: Any) -> Array:
    batch, heads, queries, size = q.shape
    out = np.full((batch, heads, queries, v.shape[-1]), np.nan, q.dtype)
    lengths = options.get("key_lengths")
    lengths = None if lengths is None else np.asarray(lengths, np.int64)
    sizes = (batch, heads, heads // k.shape[1], queries, k.shape[2], size, v.shape[-1])
    kernels.emulated_attention(
        CODES[q.dtype.name],
        *map(address, (q, k, v, out)),
        integers(*sizes),
        integers(*steps(q, k, v, out)),
        None if lengths is None else address(lengths),
        int(options.get("causal", False)),
        ctypes.c_float(options.get("scale", size**-0.5)),
    )
    return out


def assert_attention(out: Array, q: Array, k: Array, v: Array, **options: Any) -> None:
    exact = oracle.attention(q, k, v, **options)
    bound = attention_bounds(exact, q.shape[-1], q.dtype)[0]
    if q.dtype == FLOAT16:
        # Weights are rounded to float16 for the tensor cores, those below its normal numbers absolutely.
        rounded = 0.5 * epsilon(FLOAT16) * (exact.weights @ np.abs(exact.values))
        bound = bound + rounded + 2.0**-25 * np.sum(np.abs(exact.values), axis=-2, keepdims=True)
        bound = bound + 0.5 * epsilon(FLOAT16) * np.abs(exact.output)
    assert_within(out, exact.output, bound)


SHAPES = [
    # B, H, G, Sq, Sk, D, Dv
    (1, 1, 1, 1, 1, 32, 32),
    (2, 4, 2, 67, 131, 64, 64),
    (1, 2, 1, 130, 65, 40, 33),
    (1, 1, 1, 17, 129, 128, 80),
    (1, 1, 1, 65, 70, 256, 256),
    (1, 1, 1, 5, 40, 33, 129),
]


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_attention(
    kernels: ctypes.CDLL, rng: np.random.Generator, shape: tuple[int, ...], causal: bool, dtype: str
) -> None:
    batch, heads, groups, queries, keys, size, value_size = shape
    q = normal(rng, (batch, heads, queries, size), DTYPES[dtype])
    k = normal(rng, (batch, groups, keys, size), DTYPES[dtype])
    v = normal(rng, (batch, groups, keys, value_size), DTYPES[dtype])
    assert_attention(attention(kernels, q, k, v, causal=causal), q, k, v, causal=causal)


@pytest.mark.parametrize("dtype", CODES)
def test_padding_and_neighbours_change_no_bit(
    kernels: ctypes.CDLL, rng: np.random.Generator, dtype: str
) -> None:
    """Keys beyond key_lengths may be NaN; a sequence of length 0 gives zeros."""
    q, k, v = (normal(rng, (3, 1, 70, 48), DTYPES[dtype]) for _ in range(3))
    lengths = [70, 33, 0]
    options = {"key_lengths": lengths, "causal": True, "scale": 0.3}
    for n, length in enumerate(lengths):
        k[n, :, length:] = v[n, :, length:] = np.nan
    out = attention(kernels, q, k, v, **options)
    assert not np.any(out[2])
    clean_k, clean_v = (np.nan_to_num(x.astype(np.float32)).astype(x.dtype) for x in (k, v))
    assert_attention(out, q, clean_k, clean_v, **options)
    alone = attention(kernels, q[1:2], k[1:2, :, :33], v[1:2, :, :33], causal=True, scale=0.3)
    assert alone.tobytes() == out[1:2].tobytes()


def test_attention_of_strided_arrays(kernels: ctypes.CDLL, rng: np.random.Generator) -> None:
    q, k, v = (normal(rng, (1, 20, 2, 32), FLOAT16).swapaxes(1, 2) for _ in range(3))
    expected = attention(kernels, *(np.ascontiguousarray(x) for x in (q, k, v)))
    assert attention(kernels, q, k, v).tobytes() == expected.tobytes()
    wide = (np.repeat(x, 2, axis=-1)[..., ::2] for x in (q, k, v))
    assert attention(kernels, *wide).tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("sizes", [(1, 1, 1), (129, 130, 33), (17, 200, 0), (64, 16, 96)])
@pytest.mark.parametrize("transposed", [False, True])
def test_matmul(
    kernels: ctypes.CDLL, rng: np.random.Generator, sizes: tuple[int, int, int], transposed: bool, dtype: str
) -> None:
    rows, columns, depth = sizes
    a = normal(rng, (rows, depth), DTYPES[dtype])
    b = (
        normal(rng, (columns, depth), DTYPES[dtype]).T
        if transposed
        else normal(rng, (depth, columns), DTYPES[dtype])
    )
    out = np.full((rows, columns), np.nan, a.dtype)
    kernels.emulated_matmul(
        CODES[dtype], *map(address, (a, b, out)), integers(rows, columns, depth), integers(*steps(a, b, out))
    )
    assert_within(out, oracle.matmul(a, b), matmul_bound(a, b, epsilon(FLOAT32)))


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("n", [1, 7, 32, 33, 257])
def test_softmax(kernels: ctypes.CDLL, rng: np.random.Generator, n: int, dtype: str) -> None:
    x = normal(rng, (11, n), DTYPES[dtype], scale=4.0)
    x[3] = -np.inf
    x[4, 0], x[5, 0], x[6, -1] = np.nan, np.inf, -np.inf
    out = np.zeros_like(x)
    kernels.emulated_softmax(CODES[dtype], address(x), address(out), ctypes.c_int64(11), ctypes.c_int64(n))
    assert np.isnan(out[4:6].astype(np.float32)).all()
    rest = np.delete(x, [4, 5], axis=0)
    exact = oracle.softmax(rest)
    assert_within(np.delete(out, [4, 5], axis=0), exact, softmax_bound(rest, exact, -1, epsilon(FLOAT32)))


def test_dtypes_are_those_of_the_kernels() -> None:
    assert BFLOAT16.name in CODES
