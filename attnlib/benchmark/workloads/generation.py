"""SmolLM2-135M with weights of 4 bits: reading a prompt, and writing token by token."""

from __future__ import annotations

import numpy as np

from attnlib.benchmark.texts import language_model_file
from attnlib.benchmark.workload import Inputs, Target, Workload

__all__ = ["GENERATION"]

# Hidden size, inner size, rows of the fused projection of queries, keys and values, layers, vocabulary.
_SIZE, _INNER, _MIXED, _LAYERS, _VOCABULARY = 576, 1536, 960, 30, 49152
_PROMPT, _BEGINNING, _STEPS = 512, 16, 64

_WEIGHTS = _LAYERS * (_SIZE * (_MIXED + _SIZE) + 3 * _SIZE * _INNER)


def _tokens(generator: np.random.Generator, count: int) -> Inputs:
    # Words, not the special tokens before them; what they are does not change the time.
    return language_model_file(), generator.integers(100, 40000, count)


GENERATION = [
    Workload(
        case=f"SmolLM2-135M prompt of {_PROMPT} tokens",
        precision="int4",
        family="generation",
        operation="prompt",
        make=lambda generator: _tokens(generator, _PROMPT),
        ceiling="int8",
        amount=2.0 * _PROMPT * _WEIGHTS,
        targets=(Target("ratio", 2.0, "llama.cpp"),),
    ),
    Workload(
        case=f"SmolLM2-135M {_STEPS} tokens, one by one",
        precision="int4",
        family="generation",
        operation="writing",
        make=lambda generator: (*_tokens(generator, _BEGINNING + _STEPS), _BEGINNING),
        ceiling="memory",
        # 5 bits a weight: groups of 32 have a scale and a minimum of 16 bits each.
        amount=_STEPS * (_WEIGHTS + _SIZE * _VOCABULARY) * 5 / 8,
        targets=(Target("ratio", 2.0, "llama.cpp"),),
    ),
]
