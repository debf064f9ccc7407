"""merge_attention: parts of the keys, attended to apart, make the whole."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, LAYOUTS, accumulator, epsilon, native, normal
from attention_check import make_qkv
from tolerance import assert_within, attention_bounds

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def check(outs: list[np.ndarray], lses: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    out, lse = al.merge_attention(outs, lses)
    assert out.dtype == native(outs[0]).dtype
    assert lse.dtype == accumulator(out.dtype)
    exact_out, exact_lse = oracle.merge_attention(outs, lses)
    eps = epsilon(accumulator(out.dtype))
    size = np.where(np.isfinite(exact_lse), np.abs(exact_lse), 0.0)
    largest = np.max([np.abs(oracle.float64(x)) for x in outs], axis=0)
    assert_within(out, exact_out, eps * (16 + 4 * size[..., None]) * largest)
    assert_within(lse, exact_lse, eps * (16 + 2 * size))
    return out, lse


@by_dtype
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 65])
def test_values(parts: int, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    for shape in ((2, 3, 5, 17), (5, 16), (1, 1, 1, 1), (3, 40, 33)):
        outs = [normal(rng, shape, dtype) for _ in range(parts)]
        lses = [normal(rng, shape[:-1], accumulator(dtype), 3.0) for _ in range(parts)]
        check(outs, lses)


@by_dtype
def test_parts_make_the_whole(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    query, key, value = make_qkv(rng, queries=20, keys=100, dtype=dtype)
    exact = oracle.attention(query, key, value)
    cuts = (0, 1, 40, 40, 100)
    parts = [
        al.attention(query, key[..., a:b, :], value[..., a:b, :], return_lse=True)
        for a, b in itertools.pairwise(cuts)
    ]
    out, lse = al.merge_attention([p[0] for p in parts], [p[1] for p in parts])
    bounds = attention_bounds(exact, 8, dtype)
    rounded = (
        0.0
        if dtype in (DTYPES["float32"], DTYPES["float64"])
        else epsilon(dtype) * np.max(np.abs(exact.output))
    )
    assert_within(out, exact.output, 2 * bounds[0] + rounded)  # each part was rounded to the dtype already
    assert_within(lse, exact.lse, 2 * bounds[2])


@by_dtype
def test_parts_without_keys(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """An lse of -inf weighs nothing, even beside NaN; where all parts have it, zeros and -inf."""
    outs = [normal(rng, (3, 4, 8), dtype) for _ in range(3)]
    lses = [normal(rng, (3, 4), accumulator(dtype)) for _ in range(3)]
    lses[0][0] = lses[1][0] = lses[2][0] = lses[1][1] = lses[0][2, 3] = -np.inf
    outs[1][1] = np.nan
    out, lse = check(outs, lses)
    assert np.all(out[0] == 0)
    assert np.all(np.isneginf(lse[0]))


@by_dtype
def test_far_apart(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    outs = [normal(rng, (3, 8), dtype) for _ in range(2)]
    for gap in (1e3, 1e30):
        lses = [np.full(3, value, accumulator(dtype)) for value in (gap, -gap)]
        out, lse = check(outs, lses)
        assert out.tobytes() == outs[0].tobytes()
        assert np.all(lse == np.asarray(gap, lse.dtype))


@by_dtype
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    outs = [LAYOUTS[layout](normal(rng, (2, 3, 8), dtype)) for _ in range(3)]
    lses = [LAYOUTS[layout](normal(rng, (2, 3), accumulator(dtype))) for _ in range(3)]
    check(outs, lses)


def test_stacked_arrays(rng: np.random.Generator) -> None:
    """A stacked array is as good a sequence as a list."""
    outs, lses = normal(rng, (3, 2, 5, 8), np.float32), normal(rng, (3, 2, 5), np.float32)
    stacked, listed = al.merge_attention(outs, lses), al.merge_attention(list(outs), tuple(lses))
    assert stacked[0].tobytes() == listed[0].tobytes()
    assert stacked[1].tobytes() == listed[1].tobytes()


def test_refused(rng: np.random.Generator) -> None:
    out, lse = normal(rng, (2, 5, 8), np.float32), normal(rng, (2, 5), np.float32)
    with pytest.raises(ValueError, match=r"(?s)^merge_attention.*outs"):
        al.merge_attention([], [])
    with pytest.raises(ValueError, match=r"(?s)^merge_attention.*lses"):
        al.merge_attention([out, out], [lse])
    with pytest.raises(ValueError, match=r"(?s)^merge_attention.*\(2, 4, 8\)"):
        al.merge_attention([out, out[:, :4]], [lse, lse])
    with pytest.raises(ValueError, match=r"(?s)^merge_attention.*lses.*\(2, 4\)"):
        al.merge_attention([out, out], [lse, lse[:, :4]])
    with pytest.raises(TypeError, match=r"(?s)^merge_attention.*outs.*int64"):
        al.merge_attention([out.astype(np.int64)], [lse])
    with pytest.raises(TypeError, match=r"(?s)^merge_attention.*lses.*int64"):
        al.merge_attention([out], [lse.astype(np.int64)])


def test_lists_that_are_no_arrays() -> None:
    outs, lses = np.ones((2, 3, 4)), np.ones((2, 3))
    masked = np.ma.masked_array(outs[0], mask=np.zeros((3, 4), bool))
    with pytest.raises(TypeError, match=r"^merge_attention: outs\[0\] is a masked array"):
        al.merge_attention([masked, outs[0]], lses)
    with pytest.raises(TypeError, match=r"^merge_attention: outs is a masked array"):
        al.merge_attention(np.ma.masked_array(outs), lses)
    with pytest.raises(ValueError, match=r"^merge_attention: lses\[0\] is not an array"):
        al.merge_attention(outs, [[[1.0], [1.0, 2.0]], lses[0]])
    with pytest.raises(
        TypeError, match=r"^merge_attention: lses has dtypes of which none holds all: datetime64"
    ):
        al.merge_attention(outs, [lses[0].astype("M8[s]"), lses[1]])
