"""``model.bin`` of CTranslate2, with every dtype and a whole Whisper."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from models import speech

import attnlib.models
from attnlib.models.files.ctranslate2_file import CTranslate2File

from ..finding import Finding
from ..mutations import mutate_bytes
from .model_use import dtype_for, use_model
from .reader import ReaderTarget, Rng

__all__ = ["CTranslate2Files"]

_NUMBERS = (0, 1, 2, 3, 5, 255, 1 << 16, 1 << 30, (1 << 31) - 1, (1 << 32) - 1)


def _every_dtype(folder: Path) -> None:
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((5, 7))
    variables: dict[str, Any] = {
        "a": plain.astype(np.float32),
        "b": plain.astype(np.float16),
        "c": plain.astype(ml_dtypes.bfloat16),
        "d": (plain * 40).astype(np.int8),
        "d_scale": rng.uniform(50, 90, 5).astype(np.float32),
        "e": (plain * 1000).astype(np.int16),
        "e_scale": np.array(900, np.float32),
        "f": np.array([3], np.int32),
        "empty": np.zeros((0, 3), np.float32),
    }
    (folder / "model.bin").write_bytes(speech.pack_variables(variables, {"g": "d", "h": "a"}))


@dataclass
class _Variable:
    name: bytes
    shape: list[int]
    kind: int
    size: int
    data: bytes


def _mutate(rng: Rng, data: bytes) -> bytes:
    """Change one thing that the file says, leaving the places of all others right."""
    place = 0

    def number(layout: str) -> int:
        nonlocal place
        place += struct.calcsize(layout)
        return int(struct.unpack_from(layout, data, place - struct.calcsize(layout))[0])

    def text() -> bytes:
        nonlocal place
        size = number("<H")
        place += size
        return data[place - size : place]

    try:
        version, spec, revision = number("<I"), text(), number("<I")
        variables = []
        for _ in range(number("<I")):
            name, axes = text(), number("<B")
            shape = [number("<I") for _ in range(axes)]
            kind, size = number("<B"), number("<I")
            variables.append(_Variable(name, shape, kind, size, data[place : place + size]))
            place += size
        aliases = [[text(), text()] for _ in range(number("<I"))]
    except struct.error:
        return data
    if not variables:
        return data

    def pick(options: Any) -> Any:
        return options[int(rng.integers(len(options)))]

    for _ in range(int(rng.integers(1, 4))):
        one, other = pick(variables), pick(variables)
        match int(rng.integers(12)):
            case 0:
                variables.remove(one)
                if not variables:
                    return data
            case 1:
                variables.append(one)
            case 2:
                one.kind = int(rng.integers(0, 8))
            case 3:
                one.shape.reverse()
            case 4 if one.shape:
                one.shape[int(rng.integers(len(one.shape)))] = int(pick(_NUMBERS))
            case 5:
                one.name = pick((other.name, one.name[:-1] + b"_scale\0", b"\xff\0", b"", b"\0"))
            case 6:
                one.shape, one.kind, one.size, one.data = other.shape, other.kind, other.size, other.data
            case 7:
                one.shape.insert(0, int(pick((0, 1, 1 << 31))))
            case 8:
                aliases.append([pick((one.name, b"new\0")), pick((other.name, b"none\0"))])
            case 9 if aliases:
                aliases.remove(pick(aliases))
            case 10 if one.data:
                bits = bytearray(one.data)
                bits[int(rng.integers(len(bits)))] = int(rng.integers(256))
                one.data = bytes(bits)
            case _:
                # Shape, size and data stay consistent: what the model wants is another matter.
                rows = int(rng.integers(0, 9))
                one.shape, one.kind = [rows, 4], 0
                one.data = rng.standard_normal((rows, 4)).astype("<f4").tobytes()
                one.size = len(one.data)

    def packed(value: bytes) -> bytes:
        return struct.pack("<H", len(value)) + value

    parts = [struct.pack("<I", version), packed(spec), struct.pack("<II", revision, len(variables))]
    for v in variables:
        axes = v.shape[:255]
        parts += [packed(v.name), struct.pack(f"<B{len(axes)}I", len(axes), *axes)]
        parts += [struct.pack("<BI", v.kind, v.size), v.data]
    parts.append(struct.pack("<I", len(aliases)))
    parts += [packed(alias) + packed(name) for alias, name in aliases]
    return b"".join(parts)


class CTranslate2Files(ReaderTarget):
    """The file, all its tensors, then the model."""

    mutated = ("model.bin",)

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return the valid folders."""
        return {"dtypes": _every_dtype, "whisper": speech.write_ctranslate2_folder}

    def mutate(self, rng: Rng, name: str, data: bytes) -> bytes:
        """Change what the file says, or its bytes."""
        return _mutate(rng, data) if rng.random() < 0.6 else mutate_bytes(rng, data)

    def load(self, folder: Path) -> Any:
        """Read all tensors, whose shapes must be right, and the model if there is one."""
        file = CTranslate2File(folder / "model.bin")
        for name, shape in file.shapes.items():
            tensor = file.tensor(name)
            if tensor.shape != shape or tensor.dtype.kind in "iu":
                raise Finding(f"a tensor is {tensor.dtype} {tensor.shape}, not {shape}")
            if len(shape) == 2 and shape[0]:
                numbers = np.array([shape[0] - 1, 0])
                if file.rows(name, numbers).tobytes() != tensor[numbers].tobytes():
                    raise Finding("rows are others than those of the tensor")
            file.forget(name)
        if not (folder / "config.json").is_file():
            return None
        return attnlib.models.load(folder, dtype=dtype_for(folder / "model.bin"))

    def use(self, loaded: Any) -> None:
        """Run the model."""
        if loaded is not None:
            use_model(loaded)
