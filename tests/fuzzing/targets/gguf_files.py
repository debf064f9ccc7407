"""GGUF: Llama models of several types of tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from models import decoders

import attnlib.models
from attnlib.models.files.gguf_file import GgufFile

from ..finding import Finding
from ..gguf_mutations import mutate_gguf
from ..mutations import mutate_bytes
from .model_use import dtype_for, use_model
from .reader import ReaderTarget, Rng

__all__ = ["GgufFiles"]

_KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")


def _write(kind: str, folder: Path) -> None:
    decoders.write_gguf(folder / "model.gguf", kind)


class GgufFiles(ReaderTarget):
    """Header, tensors, then the model and its tokenizer."""

    mutated = (".gguf",)

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return the valid files."""
        return {kind: partial(_write, kind) for kind in _KINDS}

    def mutate(self, rng: Rng, name: str, data: bytes) -> bytes:
        """Change what the file says, or its bytes."""
        return mutate_gguf(rng, data) if rng.random() < 0.65 else mutate_bytes(rng, data)

    def load(self, folder: Path) -> Any:
        """Read all tensors, whose shapes must be right, and the model."""
        path = folder / "model.gguf"
        file = GgufFile(path)
        for name, shape in file.shapes.items():
            tensor = file.tensor(name)
            if tensor.shape != shape:
                raise Finding(f"a tensor is {tensor.shape}, not {shape}")
            if len(shape) == 2 and shape[0] and tensor.size < 1 << 20:
                numbers = np.array([shape[0] - 1, 0])
                if file.rows(name, numbers).tobytes() != tensor[numbers].tobytes():
                    raise Finding("rows are others than those of the tensor")
            file.forget(name)
        return attnlib.models.load(path, dtype=dtype_for(path))

    def use(self, loaded: Any) -> None:
        """Run the model."""
        use_model(loaded)
        if loaded.tokenizer is not None:
            ids = loaded.tokenizer.encode("ab é <end>")
            loaded.tokenizer.decode(ids)
            loaded.tokenizer.pieces(ids)
