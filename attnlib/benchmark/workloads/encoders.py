"""Encoder layers, and a real model: from tokens, and from texts."""

from __future__ import annotations

import numpy as np

from attnlib.benchmark.texts import model_folder, sentences, token_rows
from attnlib.benchmark.workload import Array, Inputs, Target, Workload
from attnlib.benchmark.workloads.arrays import normal

__all__ = ["ENCODER", "ENCODING", "MODEL"]

_MODEL = "all-MiniLM-L6-v2"
_LAYERS, _SIZE, _INNER = 6, 384, 1536


def _flops(batch: int, tokens: int, size: int, inner: int) -> float:
    products = 2 * batch * tokens * (4 * size**2 + 2 * size * inner)
    scores = 4 * batch * tokens**2 * size
    return float(products + scores)


def encoder_layer(
    batch: int, tokens: int, precision: str, size: int = 768, heads: int = 12, inner: int = 3072
) -> Workload:
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

    targets = {
        "float32": (Target("ratio", 1.2, "PyTorch"), Target("share", 0.85)),
        "bfloat16": (Target("ratio", 1.15, "PyTorch", "bfloat16"),),
    }
    return Workload(
        case=f"encoder layer d{size} H{heads} ff{inner} B{batch} S{tokens}",
        precision=precision,
        family="encoder layer",
        operation="encoder_layer",
        make=make,
        ceiling=precision,
        amount=_flops(batch, tokens, size, inner),
        targets=targets[precision],
    )


def model(batch: int, tokens: int, precision: str, targets: tuple[Target, ...]) -> Workload:
    """Texts of equally many tokens through the whole model, to one vector each."""

    def make(_: np.random.Generator) -> Inputs:
        folder = model_folder()
        return folder, token_rows(folder, batch, tokens)

    return Workload(
        case=f"{_MODEL} {batch}x{tokens} tokens",
        precision=precision,
        family="sentences",
        operation="model",
        make=make,
        ceiling=precision,
        amount=_LAYERS * _flops(batch, tokens, _SIZE, _INNER),
        targets=targets,
    )


def encode(count: int, precision: str, ratio: float) -> Workload:
    """Sentences through the model, from text to vectors."""

    def make(_: np.random.Generator) -> Inputs:
        return model_folder(), sentences(count)

    return Workload(
        case=f"encode {count} sentences",
        precision=precision,
        family="sentences",
        operation="encode",
        make=make,
        texts=count,
        targets=(Target("ratio", ratio, "PyTorch", "float32"),),
    )


ENCODER = [
    encoder_layer(batch, tokens, precision)
    for precision in ("float32", "bfloat16")
    for batch, tokens in ((1, 128), (8, 128), (1, 512))
]
MODEL = [
    model(32, 128, "float32", (Target("ratio", 1.1, "OpenVINO", "float32"),)),
    model(32, 128, "bfloat16", (Target("ratio", 1.1, "OpenVINO", "bfloat16"),)),
    model(
        32,
        128,
        "int8",
        (
            Target("ratio", 1.4, "OpenVINO", "bfloat16"),
            Target("ratio", 1.3, "ONNX Runtime", "int8"),
            Target("cosine", 0.999),
        ),
    ),
    model(1, 16, "float32", (Target("ratio", 1.3, "ONNX Runtime"), Target("ratio", 1.3, "OpenVINO"))),
]
ENCODING = [encode(1000, "float32", 1.35), encode(1000, "bfloat16", 2.2), encode(1000, "int8", 2.5)]
