"""Safetensors: one file, shards with their index, and a file of every dtype."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from models import decoders, folders
from safetensors.numpy import save_file

import attnlib.models
from attnlib.models.files.checkpoint import open_safetensors

from ..finding import Finding
from ..json_mutations import mutate_json
from .model_use import dtype_for, use_model
from .reader import ReaderTarget, Rng

__all__ = ["SafetensorsFiles"]


def _every_dtype(folder: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        dtype.name: rng.standard_normal((3, 5)).astype(dtype)
        for dtype in map(
            np.dtype, (np.float64, np.float32, np.float16, ml_dtypes.bfloat16, np.int64, np.uint8)
        )
    }
    tensors |= {"empty": np.zeros((0, 4), np.float32), "number": np.array(2.0, np.float32)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


class SafetensorsFiles(ReaderTarget):
    """What is read must be what the library safetensors reads."""

    mutated = (".safetensors", ".index.json")

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return the valid folders."""
        return {
            "dtypes": _every_dtype,
            "encoder": lambda folder: folders.make(folder).write(),
            "decoder": decoders.write_folder,
            "shards": lambda folder: decoders.write_folder(folder, shards=2),
        }

    def mutate(self, rng: Rng, name: str, data: bytes) -> bytes:
        """Change the header as JSON, with its size right, or the bytes."""
        if name.endswith(".json") or rng.random() < 0.4 or len(data) < 8:
            return super().mutate(rng, name, data)
        size = int.from_bytes(data[:8], "little")
        header = mutate_json(rng, data[8 : 8 + size])
        if rng.random() < 0.5:
            header += b" " * (-len(header) % 8)
        return len(header).to_bytes(8, "little") + header + data[8 + size :]

    def load(self, folder: Path) -> Any:
        """Compare all tensors, then load the model that they belong to."""
        checkpoint = open_safetensors(folder)
        for name, shape in checkpoint.shapes.items():
            if checkpoint.tensor(name).shape != shape:
                raise Finding(f"{name} is {checkpoint.tensor(name).shape}, not {shape}")
        if (folder / "model.safetensors").is_file():
            data = (folder / "model.safetensors").read_bytes()
            for name, entry in safetensors.deserialize(data):
                if name in checkpoint.shapes and checkpoint.tensor(name).tobytes() != bytes(entry["data"]):
                    raise Finding("another tensor than the library reads")
        if not (folder / "config.json").is_file():
            return None
        return attnlib.models.load(folder, dtype=dtype_for(min(folder.glob("*.safetensors"))))

    def use(self, loaded: Any) -> None:
        """Run the model."""
        if loaded is not None:
            use_model(loaded)
