"""GGUF files taken apart and put together, consistent or not.

The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Gguf", "Tensor", "parse", "write"]

_SCALARS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<B",
    10: "<Q",
    11: "<q",
    12: "<d",
}


@dataclass
class Tensor:
    """A row of the table of tensors."""

    name: bytes
    shape: list[int]
    kind: int
    offset: int


@dataclass
class Gguf:
    """A file. A field is its name, type and value; of an array, the value is the items' type and they."""

    version: int
    fields: list[tuple[bytes, int, Any]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    data: bytes = b""


def parse(data: bytes) -> Gguf:
    """Take a valid file apart."""
    place = 4

    def number(layout: str) -> Any:
        nonlocal place
        place += struct.calcsize(layout)
        return struct.unpack_from(layout, data, place - struct.calcsize(layout))[0]

    def text() -> bytes:
        nonlocal place
        size = number("<Q")
        place += size
        return data[place - size : place]

    def value(kind: int) -> Any:
        if kind == 8:
            return text()
        if kind == 9:
            item, count = number("<I"), number("<Q")
            return item, [value(item) for _ in range(count)]
        return number(_SCALARS[kind])

    file = Gguf(number("<I"))
    tensors, fields = number("<Q"), number("<Q")
    for _ in range(fields):
        name, kind = text(), number("<I")
        file.fields.append((name, kind, value(kind)))
    for _ in range(tensors):
        name, axes = text(), number("<I")
        file.tensors.append(Tensor(name, [number("<Q") for _ in range(axes)], number("<I"), number("<Q")))
    file.data = data[-(-place // 32) * 32 :]
    return file


def write(file: Gguf) -> bytes:
    """Put a file together; numbers wrap into the bits that there are."""

    def number(kind: int, value: Any) -> bytes:
        layout = _SCALARS.get(kind, "<I")
        if layout in ("<f", "<d"):
            try:
                return struct.pack(layout, float(value))
            except OverflowError:
                return struct.pack(layout, float("inf"))
        size = struct.calcsize(layout)
        return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def packed(kind: int, value: Any) -> bytes:
        if kind == 9:
            item, items = value
            return struct.pack("<IQ", item & 0xFFFFFFFF, len(items)) + b"".join(
                packed(item, x) for x in items
            )
        return text(value) if isinstance(value, bytes) else number(kind, value)

    parts = [b"GGUF", struct.pack("<IQQ", file.version & 0xFFFFFFFF, len(file.tensors), len(file.fields))]
    for name, kind, value in file.fields:
        parts += [text(name), struct.pack("<I", kind & 0xFFFFFFFF), packed(kind, value)]
    for tensor in file.tensors:
        axes = b"".join(number(10, size) for size in tensor.shape)
        parts += [text(tensor.name), struct.pack("<I", len(tensor.shape)), axes]
        parts += [number(4, tensor.kind), number(10, tensor.offset)]
    header = b"".join(parts)
    return header + bytes(-len(header) % 32) + file.data
