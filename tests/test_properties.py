"""Random shapes, layouts, dtypes and combinations of options (hypothesis), held against the oracle."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import oracle
import tolerance
from arrays import (
    BFLOAT16,
    DTYPES,
    FLOAT32,
    LAYOUTS,
    accumulator,
    epsilon,
    native,
    normal,
    out_layouts,
    same_bits,
)
from cases import CASES, Case
from hypothesis import event, example, given
from hypothesis import strategies as st
from tolerance import assert_within, attention_bounds

import attnlib as al

Draw = Any
LENGTHS = (0, 1, 2, 5, 17, 64, 65, 130)
LAYOUT_NAMES = ("plain", *LAYOUTS)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(list(DTYPES.values()))


def lay_out(x: np.ndarray, layout: str) -> np.ndarray:
    return x if layout == "plain" else LAYOUTS[layout](x)


@dataclass
class Call:
    """One call of attention."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    options: dict[str, Any] = field(default_factory=dict)
    return_weights: bool = False
    return_lse: bool = False
    out: str | None = None
    threads: int = 1


@st.composite
def option_shapes(draw: Draw, full: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to `full`: some axes 1, some leading ones left out."""
    kept = [n if draw(st.booleans()) else 1 for n in full]
    return tuple(kept[draw(st.integers(0, len(full))) :])


@st.composite
def attention_calls(draw: Draw) -> Call:
    rng = np.random.default_rng(draw(seeds))
    dtype = draw(dtypes)
    batch = draw(st.sampled_from([(), (1,), (2,), (3,), (2, 2), (0,)]))
    groups, repeats = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    heads = groups * repeats
    queries, keys = draw(st.sampled_from(LENGTHS)), draw(st.sampled_from(LENGTHS))
    features = draw(st.sampled_from((1, 3, 8, 16, 24, 33, 64)))
    value_features = draw(st.sampled_from((1, 5, 8, 16, 33, 64)))

    def array(shape: tuple[int, ...]) -> np.ndarray:
        axes = tuple(
            1 if draw(st.integers(0, 5)) == 0 else n for n in batch
        )  # now and then a batch axis broadcasts
        axes = axes[draw(st.integers(0, len(axes))) :] if draw(st.integers(0, 5)) == 0 else axes
        return lay_out(normal(rng, (*axes, *shape), dtype), draw(st.sampled_from(LAYOUT_NAMES)))

    call = Call(
        array((heads, queries, features)),
        array((groups, keys, features)),
        array((groups, keys, value_features)),
    )
    batch = np.broadcast_shapes(*(x.shape[:-3] for x in (call.query, call.key, call.value)))
    full = (*batch, heads, queries, keys)
    options = call.options
    if draw(st.integers(0, 2)) == 0:
        mask = rng.random(draw(option_shapes(full))) < draw(st.sampled_from((0.1, 0.5, 0.95)))
        options["mask"] = lay_out(mask, draw(st.sampled_from(LAYOUT_NAMES))) if mask.ndim else mask
    if draw(st.integers(0, 2)) == 0:
        bias = normal(rng, draw(option_shapes(full)), dtype)
        if draw(st.booleans()):
            bias = np.where(rng.random(bias.shape) < 0.3, np.asarray(-np.inf, dtype), bias)
        options["bias"] = lay_out(bias, draw(st.sampled_from(LAYOUT_NAMES))) if bias.ndim else bias
    if draw(st.booleans()):
        options["causal"] = True
    if draw(st.integers(0, 2)) == 0:
        side = st.one_of(st.none(), st.integers(0, 8), st.integers(0, 140))
        options["window"] = (draw(side), draw(side))
    if draw(st.integers(0, 2)) == 0:
        one = draw(st.integers(-20, keys + 20))
        options["query_offset"] = one if draw(st.booleans()) else rng.integers(-20, keys + 20, batch)
    if draw(st.integers(0, 2)) == 0:
        options["key_lengths"] = rng.integers(0, keys + 1, batch)
    if draw(st.integers(0, 2)) == 0:
        options["scale"] = draw(st.sampled_from((0.0, 0.1, 1.0, -0.3)))
    if draw(st.integers(0, 3)) == 0:
        options["softcap"] = draw(st.sampled_from((0.7, 5.0, 30.0)))
    if draw(st.integers(0, 3)) == 0:
        options["alibi_slopes"] = normal(rng, (heads,), dtype, 0.2)
    if draw(st.integers(0, 3)) == 0:
        options["sinks"] = normal(rng, (heads,), dtype, 2.0)
    call.return_weights, call.return_lse = draw(st.booleans()), draw(st.booleans())
    call.out = draw(st.sampled_from((None, "contiguous", "strided", "heads_last", "reversed_axes", "query")))
    call.threads = draw(st.integers(1, 3))
    return call


@given(attention_calls())
def test_attention(call: Call) -> None:
    """Any combination of options, layouts, broadcasting, out and threads."""
    arrays = tuple(native(x) for x in (call.query, call.key, call.value))
    options = {k: native(v) if isinstance(v, np.ndarray) and v.ndim else v for k, v in call.options.items()}
    for name in options:
        event(name)
    exact = oracle.attention(*arrays, **options)
    bounds = attention_bounds(exact, arrays[0].shape[-1], arrays[0].dtype)
    out = None
    if call.out == "query" and exact.output.shape == call.query.shape and call.query.flags.writeable:
        out = call.query if call.query.dtype.isnative else None
    elif call.out in ("contiguous", "strided", "heads_last", "reversed_axes"):
        out = out_layouts(exact.output.shape, arrays[0].dtype)[call.out]
    if out is not None and out.size and 0 in out.strides and out.ndim:
        out = None  # a broadcast query cannot take the result
    with al.num_threads(call.threads):
        result = al.attention(
            call.query,
            call.key,
            call.value,
            **call.options,
            return_weights=call.return_weights,
            return_lse=call.return_lse,
            out=out,
        )
    parts = list(result) if isinstance(result, tuple) else [result]
    assert len(parts) == 1 + call.return_weights + call.return_lse
    assert out is None or parts[0] is out
    assert_within(parts.pop(0), exact.output, bounds[0], what="output")
    if call.return_weights:
        weights = parts.pop(0)
        assert weights.dtype == arrays[0].dtype
        assert_within(weights, exact.weights, bounds[1], what="weights")
    if call.return_lse:
        lse = parts.pop(0)
        assert lse.dtype == accumulator(arrays[0].dtype)
        assert_within(lse, exact.lse, bounds[2], what="lse")
    with al.num_threads(1):
        again = al.attention(*arrays, **options)
        if not call.return_weights and out is None:
            assert same_bits(np.asarray(result[0] if call.return_lse else result), again)


@given(st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=5), seeds, dtypes, st.booleans())
@example([(0, 0), (70, 0), (0, 70)], 0, FLOAT32, True)
def test_attention_varlen(lengths: list[tuple[int, int]], seed: int, dtype: Any, causal: bool) -> None:
    """Packed sequences against each alone, bit for bit."""
    rng = np.random.default_rng(seed)
    q, k = (
        np.cumsum([0, *side]).astype(np.int64) for side in ([a for a, _ in lengths], [b for _, b in lengths])
    )
    query, key = normal(rng, (q[-1], 4, 16), dtype), normal(rng, (k[-1], 2, 16), dtype)
    value = normal(rng, (k[-1], 2, 16), dtype)
    packed = al.attention_varlen(query, key, value, q, k, causal=causal)
    for n in range(len(lengths)):
        rows, columns = slice(q[n], q[n + 1]), slice(k[n], k[n + 1])
        alone = al.attention(
            *(x.swapaxes(0, 1) for x in (query[rows], key[columns], value[columns])), causal=causal
        )
        assert same_bits(packed[rows], alone.swapaxes(0, 1))


@given(
    st.sampled_from(CASES),
    st.integers(0, 140),
    dtypes,
    st.lists(st.sampled_from(LAYOUT_NAMES), min_size=8, max_size=8),
    st.integers(1, 3),
    seeds,
)
def test_every_operation(
    case: Case, width: int, dtype: Any, layouts: list[str], threads: int, seed: int
) -> None:
    """Any operation at any width, every input in a layout of its own."""
    inputs = case.make(np.random.default_rng(seed), dtype, width)
    laid_out = {
        name: x if name.startswith("cu_seqlens") else lay_out(x, layout)
        for (name, x), layout in zip(inputs.items(), layouts, strict=False)
    }
    plain = {name: native(x) for name, x in laid_out.items()}
    with al.num_threads(threads):
        result = case.call(laid_out)
    case.check(result, plain)
    with al.num_threads(1):
        assert same_bits(result, case.call(plain))


@st.composite
def matmul_pairs(draw: Draw) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays that np.matmul accepts."""
    rng = np.random.default_rng(draw(seeds))
    m, n, k = (draw(st.sampled_from((0, 1, 2, 5, 17, 40, 70))) for _ in range(3))
    batch = tuple(draw(st.lists(st.integers(0, 3), max_size=3)))
    shapes = []
    for rows, columns in ((m, k), (k, n)):
        axes = tuple(1 if draw(st.integers(0, 2)) == 0 else size for size in batch)
        shapes.append((*axes[draw(st.integers(0, len(axes))) :], rows, columns))
    a, b = (normal(rng, shape, draw(dtypes)) for shape in shapes)
    if draw(st.integers(0, 4)) == 0:
        a = normal(rng, (k,), a.dtype)
    if draw(st.integers(0, 4)) == 0:
        b = normal(rng, (k,), b.dtype)
    return lay_out(a, draw(st.sampled_from(LAYOUT_NAMES))), lay_out(b, draw(st.sampled_from(LAYOUT_NAMES)))


@given(matmul_pairs())
def test_matmul(pair: tuple[np.ndarray, np.ndarray]) -> None:
    """Broadcasting, promotion, layouts."""
    a, b = pair
    result = np.asarray(al.matmul(a, b))
    kinds = {native(x).dtype for x in pair}
    expected = FLOAT32 if kinds == {DTYPES["float16"], BFLOAT16} else np.result_type(*kinds)
    assert result.dtype == expected
    a, b = native(a), native(b)
    eps = epsilon(accumulator(result.dtype))
    assert_within(result, oracle.matmul(a, b), tolerance.matmul_bound(a, b, eps) if a.shape[-1] else 0.0)


@given(seeds, dtypes, st.lists(st.integers(0, 60), min_size=1, max_size=4), st.sampled_from((1, 5, 40)))
def test_merging_parts(seed: int, dtype: Any, cuts: list[int], queries: int) -> None:
    """Attention over any partition of the keys, merged, is attention over all of them."""
    rng = np.random.default_rng(seed)
    query, key, value = (normal(rng, (2, n, 16), dtype) for n in (queries, 60, 60))
    edges = [0, *sorted(cuts), 60]
    parts = [
        al.attention(query, key[:, a:b], value[:, a:b], return_lse=True) for a, b in itertools.pairwise(edges)
    ]
    out, lse = al.merge_attention(*zip(*parts, strict=True))
    exact = oracle.attention(query, key, value)
    bounds = attention_bounds(exact, 16, dtype)
    largest = max(float(np.max(np.abs(part.astype(np.float64)))) for part, _ in parts)
    rounded = 0.0 if dtype in (FLOAT32, DTYPES["float64"]) else epsilon(dtype) * largest
    assert_within(out, exact.output, 3 * bounds[0] + rounded)
    assert_within(lse, exact.lse, 3 * bounds[2])
