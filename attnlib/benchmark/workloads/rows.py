"""Operations on rows: softmax, norms, activations, rotary embedding."""

from __future__ import annotations

import numpy as np

from attnlib.benchmark.workload import Inputs, Target, Workload
from attnlib.benchmark.workloads.arrays import normal

__all__ = ["MORE_ROWS", "ROWS"]


def row_operation(operation: str, rows: int, columns: int, least: float | None = None) -> Workload:
    """One array, two for swiglu, and vectors of weights for the norms; `least` is the ratio to reach."""

    def make(rng: np.random.Generator) -> Inputs:
        vectors = {"layer_norm": 2, "rms_norm": 1}.get(operation, 0)
        arrays = {"swiglu": 2}.get(operation, 1)
        return (
            *(normal(rng, rows, columns) for _ in range(arrays)),
            *(normal(rng, columns) for _ in range(vectors)),
        )

    moved = 3 if operation == "swiglu" else 2
    return Workload(
        case=f"{operation} {rows}x{columns}",
        precision="float32",
        family="rows",
        operation=operation,
        make=make,
        ceiling="cache",
        amount=4.0 * moved * rows * columns,
        targets=() if least is None else (Target("ratio", least),),
    )


def rotary_embedding(batch: int, heads: int, tokens: int, size: int) -> Workload:
    """Turn all features of all tokens."""

    def make(rng: np.random.Generator) -> Inputs:
        angles = np.outer(np.arange(tokens), 10000.0 ** (-np.arange(0, size, 2) / size))
        x = normal(rng, batch, heads, tokens, size)
        return x, np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)

    return Workload(
        case=f"rotary_embedding B{batch} H{heads} S{tokens} D{size}",
        precision="float32",
        family="rows",
        operation="rotary_embedding",
        make=make,
        ceiling="cache",
        amount=8.0 * batch * heads * tokens * size,
    )


ROWS = [
    row_operation("softmax", 6144, 512, 1.1),
    row_operation("softmax", 64, 50257, 1.1),
    row_operation("softmax", 1536, 128, 1.1),
    row_operation("layer_norm", 4096, 768, 1.1),
    row_operation("layer_norm", 128, 768, 1.1),
    row_operation("gelu", 4096, 768, 1.4),
    row_operation("gelu", 128, 768, 1.4),
]
MORE_ROWS = [
    *(
        row_operation(operation, 1024, 768)
        for operation in (
            "log_softmax",
            "rms_norm",
            "relu",
            "gelu_tanh",
            "silu",
            "tanh",
            "sigmoid",
            "swiglu",
        )
    ),
    rotary_embedding(8, 12, 128, 64),
]
