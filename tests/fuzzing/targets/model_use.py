"""Using a model of any kind for a moment, whatever its weights hold."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from attnlib import models

from ..finding import Finding

__all__ = ["dtype_for", "use_model"]

_SOUND = (np.random.default_rng(0).standard_normal(1600) * 0.1).astype(np.float32)


# What weights are turned into says the file itself, so that reading it again does the same.
_DTYPES = ("float32", "float32", "float32", "float32", "float32", "bfloat16", "int8", "int4")


def dtype_for(path: Path) -> str:
    """Choose a dtype for the model of a file."""
    return _DTYPES[zlib.crc32(path.read_bytes()) % len(_DTYPES)]


def use_model(model: Any) -> None:
    """Encode, write or transcribe a little, and check that results have the shapes that they must have."""
    match model:
        case models.SentenceEncoder():
            vectors = model.encode(["the cat sat", ""])
            if vectors.ndim != 2 or len(vectors) != 2 or vectors.dtype != np.float32:
                raise Finding(f"vectors are {vectors.dtype} {vectors.shape}")
        case models.LanguageModel():
            logits = model(np.array([[1, 0, 2]]))
            if logits.shape[:2] != (1, 3):
                raise Finding(f"logits are {logits.shape}")
            model.generate([1, 2], max_new_tokens=2)
            if model.tokenizer is not None:
                model.generate("ab é", max_new_tokens=2)
        case models.TextToTextModel():
            model.generate([3, 4, 1], max_new_tokens=2)
            model.generate("bak dos", max_new_tokens=2, num_beams=2)
        case models.SpeechModel():
            for _ in model.transcribe(_SOUND, language=None).segments:
                pass
        case _:
            raise Finding(f"a model of {type(model)}")
