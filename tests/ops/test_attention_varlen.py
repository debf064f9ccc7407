"""attention_varlen: packed sequences give what each gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, LAYOUTS, accumulator, normal, same_bits
from tolerance import assert_within, attention_bounds

import attnlib as al

by_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
LENGTHS_Q = (5, 0, 1, 33, 70, 2)
LENGTHS_K = (9, 4, 17, 33, 130, 0)

OPTIONS: list[dict[str, Any]] = [
    {},
    {"causal": True},
    {"window": (6, 2)},
    {"window": (20, None), "causal": True},
    {"scale": 0.7},
    {"softcap": 2.0},
    {"alibi_slopes": np.array([0.5, 0.25, 0.125, 0.0])},
    {"sinks": np.array([0.5, -2.0, 3.0, 0.0])},
    {
        "causal": True,
        "window": (9, None),
        "softcap": 4.0,
        "scale": 0.4,
        "alibi_slopes": np.array([0.1, 0.0, 0.3, 0.2]),
        "sinks": np.array([0.5, -2.0, 3.0, 0.0]),
    },
]


def offsets(lengths: tuple[int, ...], dtype: Any = np.int32) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(dtype)


def pack(rng: np.random.Generator, q: np.ndarray, k: np.ndarray, dtype: Any) -> tuple[np.ndarray, ...]:
    """query (Tq, 4, 8), key (Tk, 2, 8), value (Tk, 2, 6)."""
    return (
        normal(rng, (q[-1], 4, 8), dtype),
        normal(rng, (k[-1], 2, 8), dtype),
        normal(rng, (k[-1], 2, 6), dtype),
    )


def check(arrays: tuple[np.ndarray, ...], q: np.ndarray, k: np.ndarray | None, **options: Any) -> np.ndarray:
    dtype = arrays[0].dtype
    options = {name: x.astype(dtype) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    exact = oracle.attention_varlen(*arrays, q, k, **options)
    bounds = [attention_bounds(part, 8, dtype) for part in exact]
    output, lse = al.attention_varlen(*arrays, q, k, return_lse=True, **options)
    assert output.dtype == dtype
    assert lse.dtype == accumulator(dtype)
    wanted = np.concatenate([np.swapaxes(part.output, 0, 1) for part in exact])
    assert_within(output, wanted, np.concatenate([np.swapaxes(b[0], 0, 1) for b in bounds]), what="output")
    wanted = np.concatenate([part.lse.T for part in exact])
    assert_within(lse, wanted, np.concatenate([b[2].T for b in bounds]), what="lse (Tq, H)")
    alone = al.attention_varlen(*arrays, q, k, **options)
    assert isinstance(alone, np.ndarray)
    assert same_bits(alone, output)
    return output


@by_dtype
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o) or "plain")
def test_options(options: dict[str, Any], dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    q, k = offsets(LENGTHS_Q), offsets(LENGTHS_K)
    check(pack(rng, q, k, dtype), q, k, **options)
    check(pack(rng, q, q, dtype), q, None, **options)


@by_dtype
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "+".join(o) or "plain")
def test_same_bits_as_each_alone(
    options: dict[str, Any], dtype: np.dtype[Any], rng: np.random.Generator
) -> None:
    q, k = offsets(LENGTHS_Q), offsets(LENGTHS_K)
    query, key, value = pack(rng, q, k, dtype)
    options = {name: x.astype(dtype) if isinstance(x, np.ndarray) else x for name, x in options.items()}
    packed = al.attention_varlen(query, key, value, q, k, **options)
    for n in range(len(LENGTHS_Q)):
        rows, columns = slice(q[n], q[n + 1]), slice(k[n], k[n + 1])
        parts = (query[rows], key[columns], value[columns])
        alone = al.attention(*(part.swapaxes(0, 1) for part in parts), **options)
        assert same_bits(packed[rows], alone.swapaxes(0, 1)), f"sequence {n}"
        single = al.attention_varlen(*parts, offsets((len(parts[0]),)), offsets((len(parts[1]),)), **options)
        assert same_bits(packed[rows], single), f"sequence {n}"


@by_dtype
@pytest.mark.parametrize("lengths", [(), (0,), (0, 0), (1,), (1, 1, 1), (300,), (0, 7, 0)], ids=str)
def test_lengths(lengths: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    q = offsets(lengths)
    arrays = pack(rng, q, q, dtype)
    if lengths:
        check(arrays, q, None, causal=True)
    else:
        assert al.attention_varlen(*arrays, q).shape == (0, 4, 6)


@pytest.mark.parametrize("integer", [np.int32, np.int64])
def test_offset_dtypes_and_layouts(integer: Any, rng: np.random.Generator) -> None:
    q, k = offsets(LENGTHS_Q, integer), offsets(LENGTHS_K, integer)
    arrays = pack(rng, q, k, np.float32)
    expected = check(arrays, q, k)
    for layout in ("strided", "reversed_axes", "byte_swapped", "unaligned", "read_only"):
        assert same_bits(al.attention_varlen(*arrays, LAYOUTS[layout](q), LAYOUTS[layout](k)), expected)
    assert same_bits(al.attention_varlen(*arrays, q.astype(np.int32), k.astype(np.int64)), expected)


@by_dtype
def test_a_slice_of_fused_qkv(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Views of one (T, 3, H, D) projection are read in place."""
    fused = normal(rng, (50, 3, 4, 8), dtype)
    views = tuple(fused[:, n] for n in range(3))
    q = offsets((20, 30))
    copies = tuple(view.copy() for view in views)
    assert same_bits(al.attention_varlen(*views, q), al.attention_varlen(*copies, q))
    expected = al.attention_varlen(*views, q)
    assert same_bits(al.attention_varlen(*views, q, out=views[0]), expected)


@by_dtype
def test_dirt_in_another_sequence(dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    q = offsets((20, 30, 7))
    query, key, value = pack(rng, q, q, dtype)
    expected = al.attention_varlen(query, key, value, q)
    for array in (query, key, value):
        array[20:50] = np.nan
    result = al.attention_varlen(query, key, value, q)
    assert same_bits(result[:20], expected[:20])
    assert same_bits(result[50:], expected[50:])
    assert np.isnan(result[20:50].astype(np.float64)).all()


def test_refused(rng: np.random.Generator) -> None:
    q = offsets((5, 4))
    query, key, value = pack(rng, q, q, np.float32)
    for bad in ([0, 5, 4, 9], [0, 10, 9], [0, 5, 8], [0, 5, 10], [1, 5, 9], [-1, 5, 9], [9], [], [[0, 9]], 9):
        for name, given in (
            ("cu_seqlens_q", (np.array(bad, np.int32), q)),
            ("cu_seqlens_k", (q, np.array(bad, np.int32))),
        ):
            with pytest.raises(ValueError, match=rf"(?s)^attention_varlen.*{name}"):
                al.attention_varlen(query, key, value, *given)
    for dtype in (np.float64, np.bool_, np.complex64, object):
        with pytest.raises(TypeError, match=rf"(?s)^attention_varlen.*cu_seqlens_q.*{np.dtype(dtype).name}"):
            al.attention_varlen(query, key, value, q.astype(dtype))
    with pytest.raises(ValueError, match=r"(?s)^attention_varlen.*cu_seqlens_k"):
        al.attention_varlen(query, key, value, q, offsets((5, 2, 2)))
    with pytest.raises(ValueError, match=r"(?s)^attention_varlen.*query"):
        al.attention_varlen(query[None], key, value, q)
    with pytest.raises(ValueError, match=r"(?s)^attention_varlen.*key"):
        al.attention_varlen(query, key[..., :7], value, q)
    with pytest.raises(ValueError, match=r"(?s)^attention_varlen.*value"):
        al.attention_varlen(query, key, value[:8], q)
    with pytest.raises(ValueError, match=r"(?s)^attention_varlen.*(4.*3|3.*4)"):
        al.attention_varlen(query, np.repeat(key[:, :1], 3, 1), np.repeat(value[:, :1], 3, 1), q)
    for name in ("query", "key", "value"):
        arrays = {"query": query, "key": key, "value": value}
        arrays[name] = arrays[name].astype(np.int64)
        with pytest.raises(TypeError, match=rf"(?s)^attention_varlen.*{name}.*int64"):
            al.attention_varlen(**arrays, cu_seqlens_q=q)
    for option in ("mask", "bias", "key_lengths", "query_offset", "return_weights"):
        with pytest.raises(TypeError, match=option):
            al.attention_varlen(query, key, value, q, **{option: None})
