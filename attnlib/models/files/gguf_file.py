"""Weights and metadata from a memory-mapped GGUF file, the format of llama.cpp.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md: a header of typed fields, a
table of tensors, then their data. The header is parsed here rather than by the ``gguf`` package, whose reader
trusts the counts in it and makes several arrays of every token; what that package knows best, how each
quantised format stores its numbers, is left to it.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attnlib.models.extras import require
from attnlib.models.files.config import Fields
from attnlib.models.files.header_reader import HeaderReader
from attnlib.models.files.mapped_file import MappedFile, is_countable

__all__ = ["GgufFile"]

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9

# What NumPy reads as it lies. Everything else is in blocks.
_PLAIN = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "F64": np.dtype("<f8"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}

# Numbers to dequantise at a time: the package makes several temporary arrays of as many.
_CHUNK = 1 << 15

# The smallest that an entry can be, in bytes: more of them than fit in the file are refused before a loop.
_LEAST_FIELD = 8 + 4 + 1
_LEAST_TENSOR = 8 + 4 + 4 + 8


@dataclass(frozen=True)
class _Entry:
    shape: tuple[int, ...]
    kind: int
    offset: int


class GgufFile:
    """The metadata of one GGUF file and its tensors, read when they are asked for.

    The file must not be truncated or overwritten while a view is in use.

    Parameters
    ----------
    path
        The file: version 2 or 3, little-endian.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is cut off or inconsistent. The message begins with its path.
    ImportError
        If the package gguf is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._gguf = require("gguf")
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file")
        if path.stat().st_size < 24:
            raise ValueError(f"{path}: not a GGUF file: it has {path.stat().st_size} bytes")
        self._file = MappedFile(path)
        self._bytes = self._file.bytes
        header = HeaderReader(path, self._bytes.data)
        if header.take(4) != b"GGUF":
            raise ValueError(f"{path}: not a GGUF file: it does not begin with GGUF")
        if (version := header.scalar("<I")) not in (2, 3):
            raise ValueError(f"{path}: GGUF version {version} is not supported; known are 2 and 3")
        tensors = header.count("<Q", "tensors", _LEAST_TENSOR)
        fields = header.count("<Q", "fields", _LEAST_FIELD)
        found = {}
        for _ in range(fields):
            name = _text(header)
            found[name] = _value(header, header.scalar("<I"))
        self.fields = Fields(path, found)
        self._entries: dict[str, _Entry] = {}
        for _ in range(tensors):
            name, entry = _tensor(header)
            if name in self._entries:
                raise ValueError(f"{path}: tensor {name} is there twice")
            self._entries[name] = entry
        alignment = self.fields.integer("general.alignment", 1, 1 << 20, default=32)
        self._start = -(-header.position // alignment) * alignment
        for name, entry in self._entries.items():
            self._check(name, entry)
        self._file.forget(0, header.position)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, outermost axis first."""
        return {name: entry.shape for name, entry in self._entries.items()}

    def tensor(self, name: str) -> NDArray[Any]:
        """Return the tensor `name` of `shapes`: a view of the file, or float32 made of quantised blocks."""
        entry = self._entries[name]
        data = self._data(entry)
        if data.dtype != np.uint8:
            return data
        return self._dequantise(data, entry).reshape(entry.shape)

    def rows(self, name: str, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of a matrix (R, C) as (..., C), dequantising these alone."""
        entry = self._entries[name]
        rows = self._data(entry)[numbers]
        return rows if rows.dtype != np.uint8 else self._dequantise(rows, entry)

    def forget_tokenizer(self) -> None:
        """Let go of the fields of the tokenizer, the larger part of a header, once it was built."""
        self.fields = self.fields.without("tokenizer.")

    def forget(self, name: str) -> None:
        """Let go of the memory in which the tensor `name` was read."""
        entry = self._entries[name]
        self._file.forget(self._start + entry.offset, self._data(entry).nbytes)

    def _kind_name(self, kind: int) -> str:
        try:
            return str(self._gguf.GGMLQuantizationType(kind).name)
        except ValueError:
            return f"number {kind}"

    def _dequantise(self, blocks: NDArray[np.uint8], entry: _Entry) -> NDArray[np.float32]:
        kind = self._gguf.GGMLQuantizationType(entry.kind)
        width = entry.shape[-1]
        result = np.empty((*blocks.shape[:-1], width), np.float32)
        if not result.size:
            return result
        rows, found = blocks.reshape(-1, blocks.shape[-1]), result.reshape(-1, width)
        step = max(_CHUNK // width, 1)
        # Scales may be anything in a broken file: then so are the weights.
        with np.errstate(all="ignore"):
            for start in range(0, len(rows), step):
                part = slice(start, start + step)
                found[part] = self._gguf.quants.dequantize(rows[part], kind)
        return result

    def _check(self, name: str, entry: _Entry) -> None:
        """Raise unless the tensor is of a type that can be read and lies in the file."""
        kind = self._kind_name(entry.kind)
        if kind not in _PLAIN and (
            kind.startswith("number ")
            or self._gguf.GGMLQuantizationType(entry.kind) not in self._gguf.quants._type_traits
        ):
            raise ValueError(f"{self.path}: tensor {name} has type {kind}, which is not supported")
        per_block, block_bytes = self._block(entry)
        # Eight bytes: what a number may come to take, too.
        if not is_countable(entry.shape, max(block_bytes, 8)):
            raise ValueError(f"{self.path}: cut off: tensor {name} is {entry.shape}, which no file holds")
        if entry.shape[-1] % per_block:
            raise ValueError(
                f"{self.path}: tensor {name} is {entry.shape}, but {kind} has {per_block} numbers in a block"
            )
        end = self._start + entry.offset + math.prod(entry.shape) // per_block * block_bytes
        if end > self._bytes.size:
            raise ValueError(
                f"{self.path}: cut off: tensor {name} ends at byte {end}, the file at {self._bytes.size}"
            )

    def _block(self, entry: _Entry) -> tuple[int, int]:
        """Look up how many numbers are in a block, and its bytes."""
        kind = self._gguf.GGMLQuantizationType(entry.kind)
        numbers, size = self._gguf.GGML_QUANT_SIZES[kind]
        return int(numbers), int(size)

    def _data(self, entry: _Entry) -> NDArray[Any]:
        """View a tensor in the file: of its shape, or with rows of bytes if it is in blocks."""
        per_block, block_bytes = self._block(entry)
        row = entry.shape[-1] // per_block * block_bytes
        begin = self._start + entry.offset
        data = self._bytes[begin : begin + math.prod(entry.shape[:-1]) * row]
        plain = _PLAIN.get(self._kind_name(entry.kind))
        if plain is not None:
            tensor: NDArray[Any] = data.view(plain).reshape(entry.shape)
            return tensor
        return data.reshape(*entry.shape[:-1], row)


def _text(header: HeaderReader) -> str:
    return header.text("<Q")


def _value(header: HeaderReader, kind: int) -> Any:
    if kind == _STRING:
        return _text(header)
    if kind == _ARRAY:
        item = header.scalar("<I")
        if item == _STRING:
            return [_text(header) for _ in range(header.count("<Q", "texts", 8))]
        if item in _SCALARS:
            layout = _SCALARS[item]
            size = struct.calcsize(layout)
            length = header.count("<Q", "numbers", size)
            return np.frombuffer(header.take(length * size), layout).tolist()
        raise ValueError(f"{header.path}: an array of type {item} in the header is not supported")
    if kind not in _SCALARS:
        raise ValueError(f"{header.path}: a field of type {kind} in the header is not known")
    return header.scalar(_SCALARS[kind])


def _tensor(header: HeaderReader) -> tuple[str, _Entry]:
    name = _text(header)
    axes = header.scalar("<I")
    if not 1 <= axes <= 4:
        raise ValueError(f"{header.path}: tensor {name} has {axes} axes; from 1 to 4 are possible")
    shape = tuple(int(header.scalar("<Q")) for _ in range(axes))[::-1]
    return name, _Entry(shape, int(header.scalar("<I")), int(header.scalar("<Q")))
