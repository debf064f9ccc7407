"""Attention: whole batches, decoding, ragged batches and parts."""

from __future__ import annotations

import numpy as np

from attnlib.benchmark.workload import Inputs, Target, Workload
from attnlib.benchmark.workloads.arrays import normal

__all__ = ["ATTENTION", "CURVES", "DECODING", "EXTRAS"]

_ELEMENT = {"float32": 4.0, "bfloat16": 2.0}


def attention(
    batch: int,
    heads: int,
    tokens: int,
    size: int,
    *,
    precision: str = "float32",
    groups: int | None = None,
    causal: bool = False,
    curve: str | None = None,
) -> Workload:
    """Self-attention of all tokens; `groups` heads of keys and values, by default as many as of queries."""
    key_heads = groups or heads

    def make(rng: np.random.Generator) -> Inputs:
        query = normal(rng, batch, heads, tokens, size)
        key, value = (normal(rng, batch, key_heads, tokens, size) for _ in range(2))
        return query, key, value, causal

    # Causal: only the pairs that must be computed count.
    pairs = tokens * (tokens + 1) / 2 if causal else float(tokens**2)
    ratio, share = {"float32": (1.1, 0.85), "bfloat16": (1.8, 0.75)}[precision]
    targets = (Target("ratio", ratio), *((Target("share", share),) if tokens >= 512 else ()))
    return Workload(
        case=f"attention B{batch} H{heads}{f' G{groups}' if groups else ''} S{tokens} D{size}"
        + (" causal" if causal else ""),
        precision=precision,
        family=f"attention {precision}",
        operation="attention",
        make=make,
        ceiling=precision,
        amount=4 * batch * heads * pairs * size,
        targets=() if curve else targets,
        curve=curve,
        length=tokens if curve else 0,
    )


def decoding(
    batch: int, heads: int, groups: int, keys: int, size: int, precision: str, targets: tuple[Target, ...]
) -> Workload:
    """One new token against a cache."""

    def make(rng: np.random.Generator) -> Inputs:
        query = normal(rng, batch, heads, 1, size)
        key, value = (normal(rng, batch, groups, keys, size) for _ in range(2))
        return query, key, value, False

    return Workload(
        case=f"decoding B{batch} H{heads} G{groups} Sk{keys} D{size}",
        precision=precision,
        family="decoding",
        operation="attention",
        make=make,
        ceiling="memory",
        amount=2.0 * batch * groups * keys * size * _ELEMENT[precision],
        targets=targets,
    )


def attention_varlen(sequences: int, heads: int, longest: int, size: int) -> Workload:
    """Lengths are spread evenly from longest / sequences to longest."""
    lengths = np.arange(1, sequences + 1) * longest // sequences
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])

    def make(rng: np.random.Generator) -> Inputs:
        shape = (int(cu_seqlens[-1]), heads, size)
        return normal(rng, *shape), normal(rng, *shape), normal(rng, *shape), cu_seqlens

    return Workload(
        case=f"attention_varlen N{sequences} H{heads} S{longest // sequences}-{longest} D{size}",
        precision="float32",
        family="attention, others",
        operation="attention_varlen",
        make=make,
        ceiling="float32",
        amount=4.0 * heads * size * float((lengths**2).sum()),
    )


def merge_attention(parts: int, heads: int, tokens: int, size: int) -> Workload:
    """Join partial results over disjoint keys."""

    def make(rng: np.random.Generator) -> Inputs:
        return normal(rng, parts, heads, tokens, size), normal(rng, parts, heads, tokens)

    return Workload(
        case=f"merge_attention N{parts} H{heads} S{tokens} D{size}",
        precision="float32",
        family="attention, others",
        operation="merge_attention",
        make=make,
        ceiling="cache",
        amount=4.0 * (parts + 1) * heads * tokens * (size + 1),
    )


def _seven(precision: str) -> list[Workload]:
    return [
        attention(1, 12, 128, 64, precision=precision),
        attention(8, 12, 128, 64, precision=precision),
        attention(1, 12, 512, 64, precision=precision),
        attention(32, 12, 64, 32, precision=precision),
        attention(1, 8, 2048, 64, precision=precision, causal=True),
        attention(1, 32, 1024, 128, precision=precision, groups=8, causal=True),
        attention(1, 2, 8192, 64, precision=precision),
    ]


ATTENTION = [*_seven("float32"), *_seven("bfloat16")]

_LONG = (Target("ratio", 3.0), Target("share", 0.8))
DECODING = [
    decoding(1, 32, 8, 4096, 128, "float32", _LONG),
    decoding(1, 32, 8, 4096, 128, "bfloat16", _LONG),
    decoding(8, 9, 3, 1024, 64, "float32", (Target("ratio", 1.5),)),
]

CURVES = [
    attention(1, 4, tokens, 64, precision=precision, curve="attention B1 H4 D64")
    for precision in ("float32", "bfloat16")
    for tokens in (64, 128, 256, 512, 1024, 2048, 4096)
]

EXTRAS = [attention_varlen(16, 12, 128, 64), merge_attention(4, 12, 128, 64)]
