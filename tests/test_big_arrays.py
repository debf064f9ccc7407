"""More than 2**31 elements, offsets of gigabytes: 64-bit arithmetic all the way, without the memory.

Strides of zero repeat one row; pages that nobody touches are never mapped.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import same_bits
from attention_check import make_qkv
from numpy.typing import NDArray

import attnlib as al

Array = NDArray[Any]
f32 = np.float32
BEYOND = 2**31 + 64


@pytest.fixture(autouse=True)
def limited_memory() -> Iterator[None]:
    """Eight more gigabytes of addresses: who copies a giant gets a MemoryError, and the machine survives."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("needs Linux to limit its own memory")
    used = next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if "VmSize" in line)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 8 * 2**30, hard))
    yield
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def repeated(rows: int, columns: int) -> Array:
    """More than 2**31 elements whose last axis is contiguous: read in place."""
    return np.broadcast_to(np.ones(columns, np.float32), (rows, columns))


def giant(*shape: int) -> Array:
    """More than 2**31 elements in four bytes of memory."""
    result = np.broadcast_to(np.float32(1.0), shape)
    assert result.size > 2**31
    return result


def test_giants_that_do_not_fit() -> None:
    """Refused by their shapes, before anything is copied or allocated."""
    calls: list[Callable[[], Any]] = [
        lambda: al.matmul(giant(2**16, 2**16), np.ones((5, 5), f32)),
        lambda: al.linear(giant(2**16, 2**16), np.ones((5, 5), f32)),
        lambda: al.attention(giant(2**20, 2**12), np.ones((5, 5), f32), np.ones((5, 5), f32)),
        lambda: al.attention(np.ones((5, 5), f32), giant(2**20, 2**12), giant(2**20, 2**12)),
        lambda: al.layer_norm(giant(2**16, 2**16), np.ones(5, f32)),
        lambda: al.swiglu(giant(2**16, 2**16), np.ones(5, f32)),
        lambda: al.rotary_embedding(giant(2**16, 2, 2**9, 2**8), np.ones((5, 5), f32), np.ones((5, 5), f32)),
        lambda: al.relu(giant(2**16, 2**16), out=np.ones(5, f32)),
        lambda: al.softmax(giant(2**16, 2**16), mask=np.ones(5, bool)),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"\d{3}"):
            call()


def test_giants_of_another_dtype() -> None:
    for dtype in (np.int32, np.complex64, np.bool_):
        with pytest.raises(TypeError, match=np.dtype(dtype).name):
            al.relu(np.broadcast_to(dtype(1), (2**16, 2**16)))


def test_giants_without_work() -> None:
    """An empty result of arrays that are not."""
    none = np.ones((0, 8), f32)
    assert al.attention(none, repeated(2**29, 8), repeated(2**29, 8)).shape == (0, 8)
    assert al.matmul(np.ones((0, 2**16), f32), repeated(2**16, 2**16)).shape == (0, 2**16)
    assert al.linear(np.ones((0, 2**16), f32), repeated(2**16, 2**16)).shape == (0, 2**16)


def test_matmul_of_a_giant() -> None:
    """2**31 elements read in place: the rows are one row, repeated with stride 0."""
    row = np.arange(2**12, dtype=f32) % 7 - 3
    tall = np.broadcast_to(row, (2**19 + 16, 2**12))
    column = (np.arange(2**12) % 5 - 2).astype(f32)[:, None]
    result = al.matmul(tall, column)
    assert result.shape == (2**19 + 16, 1)
    assert np.all(result == float(row.astype(np.float64) @ column[:, 0]))


def test_keys_beyond_two_billion() -> None:
    """A cache shared by a batch; a key axis that long is refused, one shorter by little is right."""
    rng = np.random.default_rng(0)
    query, key, value = make_qkv(rng, (1,), 1, 1, 1, 64, 64)
    shared = [np.broadcast_to(x, (2**19 + 1, 1, *x.shape[2:])) for x in (query, key, value)]
    assert shared[1].size > 2**31
    result = al.attention(*shared)
    assert np.all(result == al.attention(query, key, value))

    long = [np.broadcast_to(x[:, :, :1], (1, 1, BEYOND, 64)) for x in (key, value)]
    with pytest.raises(ValueError, match=rf"(?s)^attention.*keys.*{BEYOND}"):
        al.attention(query, *long, key_lengths=[100])
    queries, keys, values = query[0].swapaxes(0, 1), *(x[0].swapaxes(0, 1) for x in long)
    with pytest.raises(ValueError, match=rf"^attention_varlen.*keys.*{BEYOND}"):
        al.attention_varlen(queries, keys, values, [0, 1], [0, BEYOND])
    most = [np.broadcast_to(x[:, :, :1], (1, 1, 2**31 - 1, 64)) for x in (key, value)]
    exact = oracle.attention(query, *(x[:, :, :100] for x in most)).output
    assert np.allclose(al.attention(query, *most, key_lengths=[100]), exact, rtol=1e-5, atol=1e-6)


def test_far_apart_rows() -> None:
    """Row strides of gigabytes: offsets are 64 bits wide, and untouched pages cost nothing."""
    storage = np.zeros(2**31 + 2**20, np.float16)
    far = np.lib.stride_tricks.as_strided(storage, (3, 4, 8), (2**31, 4096, 2))
    far[...] = np.random.default_rng(0).standard_normal(far.shape)
    near = far.copy()
    assert same_bits(al.softmax(far), al.softmax(near))
    assert same_bits(al.softmax(far, 0), al.softmax(near, 0))
    assert same_bits(al.attention(far, far, far), al.attention(near, near, near))
    assert same_bits(al.matmul(far, near[0].T.copy()), al.matmul(near, near[0].T.copy()))
    al.relu(near, out=far)
    assert same_bits(far.copy(), al.relu(near))


def test_more_memory_than_can_be_counted() -> None:
    """In float32 the left matrix would take 2**63 bytes: a MemoryError, not what 64 bits make of it."""
    left = np.broadcast_to(np.ones(2**26, np.float16), (2**35, 2**26))
    right = np.ones((2**26, 1), np.float16)
    out = np.lib.stride_tricks.as_strided(np.zeros(1, np.float16), (2**35, 1), (0, 2))
    with pytest.raises(MemoryError):
        al.matmul(left, right, out=out)
