"""What is measured: each workload makes its own arrays, the same ones for every engine.

Letters: B batch, H heads, S tokens, D head size, N sequences or parts.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ATTENTION", "ENCODER", "EVERYTHING", "MATMUL", "ROWS", "SENTENCES", "TABLE", "Workload"]

Array = NDArray[Any]
Inputs = tuple[Any, ...]


@dataclass(frozen=True)
class Workload:
    """One line of the table.

    Attributes
    ----------
    name : str
        Operation and sizes.
    operation : str
        What the engines call it.
    make : function of a generator
        Makes the inputs, in the order in which the engines' functions take them.
    flops : float
        Floating-point operations of the products, if those bound it; else 0.
    bytes : float
        Bytes read and written, if memory bounds it; else 0.
    texts : int
        Texts encoded, where texts are; else 0.
    """

    name: str
    operation: str
    make: Callable[[np.random.Generator], Inputs]
    flops: float = 0.0
    bytes: float = 0.0
    texts: int = 0

    def __str__(self) -> str:
        return self.name

    def inputs(self) -> Inputs:
        """Make the inputs: the same ones in each run."""
        return self.make(np.random.default_rng(zlib.crc32(self.name.encode())))


def normal(rng: np.random.Generator, *shape: int) -> Array:
    return rng.standard_normal(shape, dtype=np.float32)


def attention(batch: int, heads: int, tokens: int, size: int, *, causal: bool = False) -> Workload:
    shape = (batch, heads, tokens, size)

    def make(rng: np.random.Generator) -> Inputs:
        return normal(rng, *shape), normal(rng, *shape), normal(rng, *shape), causal

    pairs = tokens * (tokens + 1) / 2 if causal else tokens**2
    name = f"attention B{batch} H{heads} S{tokens} D{size}" + (" causal" if causal else "")
    return Workload(name, "attention", make, flops=4 * batch * heads * pairs * size)


def attention_varlen(sequences: int, heads: int, longest: int, size: int) -> Workload:
    """Lengths are spread evenly from longest / sequences to longest."""
    lengths = np.arange(1, sequences + 1) * longest // sequences
    cu_seqlens = np.concatenate([[0], np.cumsum(lengths)])

    def make(rng: np.random.Generator) -> Inputs:
        shape = (int(cu_seqlens[-1]), heads, size)
        return normal(rng, *shape), normal(rng, *shape), normal(rng, *shape), cu_seqlens

    name = f"attention_varlen N{sequences} H{heads} S{longest // sequences}-{longest} D{size}"
    return Workload(name, "attention_varlen", make, flops=4.0 * heads * size * float((lengths**2).sum()))


def merge_attention(parts: int, heads: int, tokens: int, size: int) -> Workload:
    def make(rng: np.random.Generator) -> Inputs:
        return normal(rng, parts, heads, tokens, size), normal(rng, parts, heads, tokens)

    name = f"merge_attention N{parts} H{heads} S{tokens} D{size}"
    return Workload(name, "merge_attention", make, bytes=4.0 * (parts + 1) * heads * tokens * (size + 1))


def linear(rows: int, in_features: int, out_features: int, activation: str | None = None) -> Workload:
    def make(rng: np.random.Generator) -> Inputs:
        weight = normal(rng, out_features, in_features) * np.float32(in_features**-0.5)
        return normal(rng, rows, in_features), weight, normal(rng, out_features), activation

    name = f"linear {rows}x{in_features}x{out_features}" + (f" {activation}" if activation else "")
    return Workload(name, "linear", make, flops=2.0 * rows * in_features * out_features)


def matmul(rows: int, inner: int, columns: int, batch: tuple[int, ...] = ()) -> Workload:
    def make(rng: np.random.Generator) -> Inputs:
        return normal(rng, *batch, rows, inner), normal(rng, *batch, inner, columns)

    name = "matmul " + "x".join(map(str, (*batch, rows, inner, columns)))
    return Workload(name, "matmul", make, flops=2.0 * float(np.prod(batch)) * rows * inner * columns)


def row_operation(operation: str, rows: int, columns: int) -> Workload:
    """An operation on rows: one array, two for swiglu, and vectors of weights for the norms."""

    def make(rng: np.random.Generator) -> Inputs:
        vectors = {"layer_norm": 2, "rms_norm": 1}.get(operation, 0)
        arrays = {"swiglu": 2}.get(operation, 1)
        return (
            *(normal(rng, rows, columns) for _ in range(arrays)),
            *(normal(rng, columns) for _ in range(vectors)),
        )

    moved = 3 if operation == "swiglu" else 2
    return Workload(f"{operation} {rows}x{columns}", operation, make, bytes=4.0 * moved * rows * columns)


def rotary_embedding(batch: int, heads: int, tokens: int, size: int) -> Workload:
    def make(rng: np.random.Generator) -> Inputs:
        angles = np.outer(np.arange(tokens), 10000.0 ** (-np.arange(0, size, 2) / size))
        x = normal(rng, batch, heads, tokens, size)
        return x, np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    name = f"rotary_embedding B{batch} H{heads} S{tokens} D{size}"
    return Workload(name, "rotary_embedding", make, bytes=8.0 * batch * heads * tokens * size)


def encoder_layer(batch: int, tokens: int, size: int, heads: int, inner: int) -> Workload:
    """A layer of BERT's kind: norms after, exact GELU. The parameters have the names of ``torch.nn``."""

    def make(rng: np.random.Generator) -> Inputs:
        state: dict[str, Array] = {
            "self_attn.in_proj_weight": normal(rng, 3 * size, size) * np.float32(size**-0.5),
            "self_attn.in_proj_bias": normal(rng, 3 * size),
            "self_attn.out_proj.weight": normal(rng, size, size) * np.float32(size**-0.5),
            "self_attn.out_proj.bias": normal(rng, size),
            "linear1.weight": normal(rng, inner, size) * np.float32(size**-0.5),
            "linear1.bias": normal(rng, inner),
            "linear2.weight": normal(rng, size, inner) * np.float32(inner**-0.5),
            "linear2.bias": normal(rng, size),
        }
        for norm in ("norm1", "norm2"):
            state[f"{norm}.weight"], state[f"{norm}.bias"] = normal(rng, size), normal(rng, size)
        return normal(rng, batch, tokens, size), state, heads

    products = 2 * batch * tokens * (4 * size**2 + 2 * size * inner)
    scores = 4 * batch * tokens**2 * size
    name = f"encoder layer d{size} H{heads} ff{inner} B{batch} S{tokens}"
    return Workload(name, "encoder_layer", make, flops=float(products + scores))


def encode(count: int) -> Workload:
    """Sentences through a real model, from text to vectors."""

    def make(_: np.random.Generator) -> Inputs:
        from sentences import model_folder, sentences

        return model_folder(), sentences(count)

    return Workload(f"encode {count} sentences", "encode", make, texts=count)


ATTENTION = [
    attention(1, 12, 128, 64),
    attention(8, 12, 128, 64),
    attention(1, 12, 512, 64),
    attention(1, 8, 2048, 64, causal=True),
    attention(32, 12, 64, 32),
    attention_varlen(16, 12, 128, 64),
    merge_attention(4, 12, 128, 64),
]
MATMUL = [
    linear(512, 768, 3072),
    linear(128, 768, 768),
    linear(512, 768, 3072, "gelu"),
    matmul(512, 768, 768),
    matmul(64, 64, 64, batch=(96,)),
]
ROWS = [
    row_operation("softmax", 6144, 512),
    row_operation("layer_norm", 4096, 768),
    row_operation("gelu", 4096, 768),
    *map(
        partial(row_operation, rows=1024, columns=768),
        ("log_softmax", "rms_norm", "relu", "gelu_tanh", "silu", "tanh", "sigmoid", "swiglu"),
    ),
    rotary_embedding(8, 12, 128, 64),
]
ENCODER = [encoder_layer(1, 128, 768, 12, 3072), encoder_layer(8, 128, 768, 12, 3072)]
SENTENCES = [encode(500)]

EVERYTHING = [*ATTENTION, *MATMUL, *ROWS, *ENCODER, *SENTENCES]

# What compare.py runs when nothing else is asked for, in its order.
TABLE = [*MATMUL[:2], *ATTENTION[:5], *ROWS[:3], *ENCODER, *SENTENCES]
