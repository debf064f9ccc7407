"""Matrix products: linear layers of packed weights, and products of two arrays."""

from __future__ import annotations

import numpy as np

from attnlib.benchmark.workload import Inputs, Target, Workload
from attnlib.benchmark.workloads.arrays import normal

__all__ = ["LINEAR", "MATMUL", "linear"]

# Bytes of an element of a weight; int4 has a float16 scale for each group of 128 beside it.
_ELEMENT = {"float32": 4.0, "bfloat16": 2.0, "int8": 1.0, "int4": 0.5 + 2 / 128}


def linear(
    rows: int, in_features: int, out_features: int, precision: str, activation: str | None = None
) -> Workload:
    """A layer whose weight is packed; a few rows are bound by reading it, many by arithmetic."""

    def make(rng: np.random.Generator) -> Inputs:
        weight = normal(rng, out_features, in_features) * np.float32(in_features**-0.5)
        return normal(rng, rows, in_features), weight, normal(rng, out_features), activation

    few = rows < 17
    size = in_features * out_features
    return Workload(
        case=f"linear M{rows} {in_features}->{out_features}" + (f" {activation}" if activation else ""),
        precision=precision,
        family=f"linear {precision}",
        operation="linear",
        make=make,
        ceiling="cache" if few else precision,
        amount=_ELEMENT[precision] * size if few else 2.0 * rows * size,
        targets=_few_rows(precision) if few else _many_rows(rows, precision),
    )


def _few_rows(precision: str) -> tuple[Target, ...]:
    share = Target("share", 0.6 if precision == "int4" else 0.85)
    torch = (Target("ratio", 1.5, "PyTorch"),) if precision == "bfloat16" else ()
    return (Target("ratio", 1.0), *torch, share)


def _many_rows(rows: int, precision: str) -> tuple[Target, ...]:
    if precision == "float32":
        return (Target("share", 0.95),) if rows >= 128 else (Target("ratio", 1.0),)
    ratio, share = {"bfloat16": (1.0, 0.9), "int8": (1.25, 0.8)}[precision]
    return (Target("ratio", ratio, "PyTorch"), *((Target("share", share),) if rows >= 512 else ()))


def matmul(rows: int, inner: int, columns: int, batch: tuple[int, ...] = ()) -> Workload:
    """A product of two arrays, neither of them packed."""

    def make(rng: np.random.Generator) -> Inputs:
        return normal(rng, *batch, rows, inner), normal(rng, *batch, inner, columns)

    return Workload(
        case="matmul " + "x".join(map(str, (*batch, rows, inner, columns))),
        precision="float32",
        family="matmul",
        operation="matmul",
        make=make,
        ceiling="float32",
        amount=2.0 * float(np.prod(batch)) * rows * inner * columns,
        targets=(Target("ratio", 1.0),),
    )


_SHAPES = ((384, 1536), (768, 768), (768, 3072), (1024, 1024))
LINEAR = [
    linear(rows, *shape, precision)
    for precision in ("float32", "bfloat16", "int8", "int4")
    for shape in (*_SHAPES, (4096, 4096))
    for rows in ((1, 4) if shape == (4096, 4096) else () if precision == "int4" else (17, 128, 512, 1024))
]
MATMUL = [matmul(1024, 1024, 1024), matmul(2048, 2048, 2048), matmul(64, 64, 64, batch=(96,))]
