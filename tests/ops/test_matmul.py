"""matmul: the shapes of np.matmul, every remainder of the tiles, the contract's error bound."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, FULL, accumulator, epsilon, normal
from tolerance import assert_within, matmul_bound

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)

SHAPES = [
    ((3,), (3,)),
    ((0,), (0,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((5, 2, 3), (5, 3, 4)),
    ((1, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 4)),
    ((2, 1, 1, 2, 3), (1, 3, 1, 3, 4)),
    ((0, 2, 3), (3, 4)),
    ((5, 0, 3), (3, 4)),
    ((5, 2, 0), (0, 4)),
    ((5, 2, 3), (3, 0)),
    ((0, 3), (3, 0)),
]


def check(a: np.ndarray, b: np.ndarray) -> None:
    result = al.matmul(a, b)
    eps = epsilon(accumulator(a.dtype))
    bound = matmul_bound(a, b, eps) if a.shape[-1] else 0.0
    assert np.asarray(result).dtype == a.dtype
    assert_within(result, oracle.matmul(a, b), bound, what=f"{a.shape} @ {b.shape}")


@by_dtype
@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_shapes(
    a: tuple[int, ...], b: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    check(normal(rng, a, dtype), normal(rng, b, dtype))


@by_dtype
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 16), (3, 40), (8, 640), (9, 16), (23, 48), (64, 64), (97, 32), (10, 17)]
)
def test_batches(rows: int, columns: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """However the matrices of a batch lie, each has the bits of its own product, with any threads."""
    depth = 24
    a, b = normal(rng, (3, 4, rows, depth), dtype), normal(rng, (3, 4, depth, columns), dtype)
    swapped_a = np.ascontiguousarray(a.swapaxes(1, 2)).swapaxes(1, 2)
    swapped_b = np.ascontiguousarray(b.swapaxes(1, 2)).swapaxes(1, 2)
    transposed_b = np.ascontiguousarray(b.swapaxes(2, 3)).swapaxes(2, 3)
    apart = np.zeros((3, 4, rows + 2, columns + 3), dtype)
    batches = [
        (a, b, None),
        (a[::-1], b, None),
        (a[::-1, ::-1], b, None),
        (a, b[::-1, ::-1], None),
        (a[:, ::2], b[:, 1::2], None),
        (swapped_a, b, None),
        (a, swapped_b, None),
        (a, transposed_b, None),
        (a, b[1, 2], None),
        (a, b[:, :1], None),
        (a[2, 1], b, None),
        (a, b, apart[:, :, 1:-1, 2:-1]),
        (a, b, apart[::-1, ::-1, 1:-1, 2:-1]),
    ]
    for left, right, out in batches:
        leading = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
        lefts = np.broadcast_to(left, (*leading, rows, depth)).reshape(-1, rows, depth)
        rights = np.broadcast_to(right, (*leading, depth, columns)).reshape(-1, depth, columns)
        one_by_one = [al.matmul(x, y) for x, y in zip(lefts, rights, strict=True)]
        for threads in (1, 3):
            with al.num_threads(threads):
                found = al.matmul(left, right, out=out)
            assert found.shape == (*leading, rows, columns)
            np.testing.assert_array_equal(found.reshape(-1, rows, columns), one_by_one)
    apart[:, :, 1:-1, 2:-1] = 0
    assert not apart.astype(np.float32).any()


@by_dtype
@pytest.mark.parametrize("m", (0, 1, 2, 3, 5, 7, 8, 9, 13, 15, 17, 33, 65) if not FULL else range(100))
def test_every_remainder(m: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Rows, columns and depths on both sides of any tile."""
    sizes = (0, 1, 7, 16, 17, 33, 49, 65, 129)
    for n, k in product(sizes, sizes if FULL else (1, 2, 17, 65)):
        check(normal(rng, (m, k), dtype), normal(rng, (k, n), dtype))


@by_dtype
@pytest.mark.parametrize("k", [1023, 1024, 1025, 2049, 5000])
def test_long_reductions(k: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Several blocks along K; the second matrix packed, read in place, or row by row."""
    for m, n in ((1, 33), (3, 130), (16, 64), (50, 70)):
        check(normal(rng, (m, k), dtype), normal(rng, (k, n), dtype))


def plan() -> str:
    """By which the last product was made."""
    record = al.last_dispatch()
    assert record is not None
    assert record.plan is not None
    return record.plan


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [64, 240, 1024])
@pytest.mark.parametrize("rows", [23, 24, 96, 97, 192, 193])
def test_bits_of_every_plan(rows: int, columns: int, dtype: type[Any], rng: np.random.Generator) -> None:
    """The second matrix read where it lies, packed on the way, packed before: the same sums."""
    a = normal(rng, (rows, 70), np.dtype(dtype))
    b = normal(rng, (70, columns), np.dtype(dtype))
    found = al.matmul(a, b)
    if rows == 23 or columns == 64:  # few rows, or a small matrix, on every rung
        assert "in place" in plan()
    np.testing.assert_array_equal(found, al.linear(a, al.pack_weight(b.T)))
    np.testing.assert_array_equal(found, al.matmul(a, b.T.copy().T))
    assert "packed on the way" in plan()
    np.testing.assert_array_equal(found, np.concatenate([al.matmul(a[:50], b), al.matmul(a[50:], b)]))
    check(a, b)


@by_dtype
def test_integers_are_exact(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Sums that fit the significand have no error at all, in any order."""
    a, b = rng.integers(-2, 3, (37, 60)).astype(dtype), rng.integers(-1, 2, (60, 50)).astype(dtype)
    assert np.array_equal(oracle.float64(al.matmul(a, b)), oracle.matmul(a, b))


def test_overflow_becomes_infinity() -> None:
    """float16 overflows when the float32 sum is rounded, silently, as an addition of NumPy arrays would."""
    a = np.full((2, 40), 100.0, np.float16)
    assert np.all(np.isposinf(al.matmul(a, a.T)))
    assert np.all(np.isneginf(al.matmul(a, -a.T)))


@by_dtype
def test_nan_stays_in_its_row_and_column(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    a, b = normal(rng, (20, 19), dtype), normal(rng, (19, 40), dtype)
    a[7, 3] = np.nan
    b[11, 30] = np.inf
    exact = np.isfinite(oracle.float64(al.matmul(a, b)))
    expected = np.ones((20, 40), bool)
    expected[7] = expected[:, 30] = False
    assert np.array_equal(exact, expected)


@pytest.mark.parametrize(
    ("a", "b", "shown"),
    [
        ((3, 4), (3, 4), r"\(3, 4\).*\(3, 4\)"),
        ((3,), (4,), r"\(3,\).*\(4,\)"),
        ((3,), (4, 3), r"\(3,\).*\(4, 3\)"),
        ((2, 3, 4), (3, 4, 5), r"\(2,.*\(3,"),
        ((3, 4), (4, 3, 5), r"\(3, 4\).*\(4, 3, 5\)"),
        ((), (3,), r"\(\).*\(3,\)"),
        ((3,), (), r"\(3,\).*\(\)"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(a: tuple[int, ...], b: tuple[int, ...], shown: str) -> None:
    with pytest.raises(ValueError, match=rf"(?s)^matmul.*{shown}"):
        al.matmul(np.zeros(a), np.zeros(b))
