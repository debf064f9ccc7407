"""Valid random arguments for attention in all its forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import tolerance

import attnlib as al
from attnlib import functional

from .calls import Call, Draw, promoted

__all__ = ["ATTENTION"]

Arguments = dict[str, Any]


def _options(draw: Draw, heads: int) -> Arguments:
    """Draw what all forms take."""
    sides = (None, 0, 1, 5, 40)
    return {
        "causal": draw.chance(0.5),
        "window": (draw.pick(sides), draw.pick(sides)) if draw.chance(0.3) else None,
        "scale": draw.pick((None, None, 0.2, 0.0, -0.5)),
        "softcap": draw.pick((None, None, 3.0, 20.0)),
        "alibi_slopes": draw.array(heads, scale=0.1, dtype=draw.dtype) if draw.chance(0.2) else None,
        "sinks": draw.array(heads, dtype=draw.dtype) if draw.chance(0.2) else None,
    }


def attention(draw: Draw) -> Call:
    """Every option."""
    groups = int(draw.rng.integers(1, 4))
    heads = groups * int(draw.rng.integers(1, 4))
    queries, keys = draw.pick((1, 1, draw.size())), draw.pick((draw.size(), draw.size(), 300))
    features, value_features = draw.size(65), draw.size(65)
    batch = draw.batch()
    one_head = draw.chance(0.1)
    heads, groups = (1, 1) if one_head else (heads, groups)

    def axes(count: int) -> tuple[int, ...]:
        return () if one_head else (*(draw.broadcast(*batch) if draw.chance(0.2) else batch), count)

    arguments: Arguments = {
        "query": draw.array(*axes(heads), queries, features),
        "key": draw.array(*axes(groups), keys, features),
        "value": draw.array(*axes(groups), keys, value_features),
        **_options(draw, heads),
        "mask": None,
        "bias": None,
        "key_lengths": None,
        "query_offset": None,
        "return_weights": draw.chance(0.2),
        "return_lse": draw.chance(0.3),
    }
    lead = np.broadcast_shapes(*(arguments[name].shape[:-3] for name in ("query", "key", "value")))
    full = (*lead, *(() if one_head else (heads,)), queries, keys)
    if draw.chance(0.3):
        arguments["mask"] = draw.rng.random(draw.broadcast(*full)) < 0.7
    if draw.chance(0.3):
        bias = draw.array(*draw.broadcast(*full), dtype=draw.dtype)
        bias[draw.rng.random(bias.shape) < 0.1] = -np.inf
        arguments["bias"] = bias
    if draw.chance(0.3):
        arguments["key_lengths"] = draw.rng.integers(0, keys + 1, lead)
    if draw.chance(0.2):
        offset = draw.rng.integers(-5, keys + 6, lead)
        arguments["query_offset"] = offset if draw.chance(0.5) else int(draw.rng.integers(-5, keys + 6))

    def exact(a: Arguments) -> Any:
        options = {
            n: x for n, x in a.items() if n not in ("query", "key", "value", "return_weights", "return_lse")
        }
        right = oracle.attention(a["query"], a["key"], a["value"], **options)
        dtype = promoted(*(a[name] for name in ("query", "key", "value", "bias")))
        bounds = tolerance.attention_bounds(right, a["query"].shape[-1], dtype)
        results = [(right.output, bounds[0])]
        results += [(right.weights, bounds[1])] if a["return_weights"] else []
        return results + ([(right.lse, bounds[2])] if a["return_lse"] else [])

    return Call("attention", al.attention, arguments, exact, takes_out=True)


def attention_varlen(draw: Draw) -> Call:
    """Sequences end to end."""
    groups = int(draw.rng.integers(1, 3))
    heads = groups * int(draw.rng.integers(1, 3))
    count, features = int(draw.rng.integers(0, 5)), draw.size(40)
    lengths = [draw.rng.integers(0, 40, count) for _ in range(2)]
    lengths[1] = lengths[1] if draw.chance(0.5) else lengths[0]
    offsets = [np.concatenate([[0], np.cumsum(n)]).astype(draw.pick((np.int32, np.int64))) for n in lengths]
    arguments: Arguments = {
        "query": draw.array(int(offsets[0][-1]), heads, features),
        "key": draw.array(int(offsets[1][-1]), groups, features),
        "value": draw.array(int(offsets[1][-1]), groups, features),
        "cu_seqlens_q": offsets[0],
        "cu_seqlens_k": offsets[1],
        **_options(draw, heads),
        "return_lse": draw.chance(0.3),
    }
    if lengths[1] is lengths[0] and draw.chance(0.5):
        arguments["cu_seqlens_k"] = None

    def exact(a: Arguments) -> Any:
        options = {n: a[n] for n in ("causal", "window", "scale", "softcap", "alibi_slopes", "sinks")}
        arrays = a["query"], a["key"], a["value"]
        parts = oracle.attention_varlen(*arrays, a["cu_seqlens_q"], a["cu_seqlens_k"], **options)
        dtype = promoted(*arrays)
        bounds = [tolerance.attention_bounds(part, features, dtype) for part in parts]
        shape = (0, heads, features)

        def joined(pieces: list[Any], empty: tuple[int, ...]) -> Any:
            return np.concatenate([np.zeros(empty), *(np.swapaxes(piece, 0, 1) for piece in pieces)])

        results = [(joined([p.output for p in parts], shape), joined([b[0] for b in bounds], shape))]
        if not a["return_lse"]:
            return results
        return [*results, (_lse(parts, heads), joined([b[2] for b in bounds], shape[:2]))]

    return Call("attention_varlen", al.attention_varlen, arguments, exact, takes_out=True)


def _lse(parts: Any, heads: int) -> Any:
    return np.concatenate([np.zeros((0, heads)), *(np.swapaxes(part.lse, 0, 1) for part in parts)])


def merge_attention(draw: Draw) -> Call:
    """Partial results, some of them of no keys."""
    shape = (*draw.batch(1), int(draw.rng.integers(1, 4)), draw.size(33))
    count = int(draw.rng.integers(1, 4))
    dtype = np.float64 if draw.dtype == np.float64 else np.float32
    lses = [draw.array(*shape, dtype=dtype, scale=3.0) for _ in range(count)]
    for lse in lses:
        lse[draw.rng.random(shape) < 0.1] = -np.inf
    features = draw.size(33)
    outs = [draw.array(*shape, features, dtype=draw.dtype) for _ in range(count)]
    arguments = {f"out{i}": out for i, out in enumerate(outs)} | {
        f"lse{i}": lse for i, lse in enumerate(lses)
    }

    def function(**parts: Any) -> Any:
        given = list(parts.values())
        return al.merge_attention(given[:count], given[count:])

    def exact(a: Arguments) -> Any:
        given = list(a.values())
        out, lse = oracle.merge_attention(given[:count], given[count:])
        eps = float(np.finfo(dtype).eps)
        size = max((np.abs(oracle.float64(x)).max(initial=0.0) for x in given[:count]), default=0.0)
        return [(out, 200 * eps * (1 + size)), (lse, 100 * eps)]

    return Call("merge_attention", function, arguments, exact)


def cached_attention(draw: Draw) -> Call:
    """A step, against the operations that it is made of."""
    batch, groups = int(draw.rng.integers(0, 4)), int(draw.rng.integers(1, 3))
    heads = groups * int(draw.rng.integers(1, 3))
    new, features, value_features = int(draw.rng.integers(0, 6)), draw.size(33), draw.size(33)
    capacity = new + draw.size(100)
    draw.mixed = False
    turned = int(draw.rng.integers(features // 2 + 1)) if draw.chance(0.5) else None
    longest = capacity + 8
    tables = [
        np.asarray(t)[:, :turned].astype(draw.dtype) for t in oracle.rotary_tables(longest, max(features, 1))
    ]
    arguments: Arguments = {
        "query": draw.array(batch, heads, new, features),
        "key": draw.array(batch, groups, new, features),
        "value": draw.array(batch, groups, new, value_features),
        "key_cache": draw.array(batch, groups, capacity, features),
        "value_cache": draw.array(batch, groups, capacity, value_features),
        "lengths": draw.rng.integers(0, capacity - new + 1, batch),
        "cos": None if turned is None else tables[0],
        "sin": None if turned is None else tables[1],
        "positions": draw.rng.integers(0, longest, (batch, new))
        if turned is not None and draw.chance(0.4)
        else None,
        "causal": draw.chance(0.7),
        "window": draw.pick((None, None, 1, 7)),
        "scale": draw.pick((None, 0.3)),
    }

    def function(key_cache: Any, value_cache: Any, **others: Any) -> Any:
        if isinstance(key_cache, np.ndarray) and key_cache.size < 1 << 22:
            key_cache = np.array(key_cache, subok=True)
        if isinstance(value_cache, np.ndarray) and value_cache.size < 1 << 22:
            value_cache = np.array(value_cache, subok=True)
        out = functional.cached_attention(key_cache=key_cache, value_cache=value_cache, **others)
        return out, key_cache, value_cache

    names = ("cached_attention", "rotary_embedding", "attention")
    return Call(names, function, arguments, written=("key_cache", "value_cache"))


ATTENTION = (attention, attention, attention, attention_varlen, merge_attention, cached_attention)
