"""Weights from a memory-mapped ``model.bin``, the format of CTranslate2 and so of faster-whisper.

The file is a list: how many variables there are, then each with its name, shape, dtype and data, one behind
the other; at its end, second names of some. The layout was read off files and the converter's serialisation
(https://github.com/OpenNMT/CTranslate2, ``specs/model_spec.py``); all numbers are little-endian.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attnlib.models.files.header_reader import HeaderReader
from attnlib.models.files.mapped_file import MappedFile, is_countable

__all__ = ["CTranslate2File"]

_VERSION = 6

# By their numbers in the file.
_DTYPES = (
    np.dtype(np.float32),
    np.dtype(np.int8),
    np.dtype(np.int16),
    np.dtype(np.int32),
    np.dtype(np.float16),
    np.dtype(ml_dtypes.bfloat16),
)
_INTEGERS = frozenset(_DTYPES[1:4])

# The smallest that an entry can be, in bytes: more of them than fit in the file are refused before a loop.
_LEAST_VARIABLE = 2 + 1 + 1 + 4
_LEAST_ALIAS = 2 + 2


@dataclass(frozen=True)
class _Entry:
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


class CTranslate2File:
    """The tensors and numbers of one ``model.bin``, read when they are asked for.

    Weights of 8 and 16 bits come back as float32: ``w = q / scale``, with a scale for each row or for all.
    The file must not be truncated or overwritten while a view is in use.

    Parameters
    ----------
    path
        The file, of binary version 6.

    Attributes
    ----------
    spec
        What kind of model it says it is, such as ``"WhisperSpec"``.
    revision
        Of that kind.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is cut off or inconsistent. The message begins with its path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file")
        if path.stat().st_size < 8:
            raise ValueError(f"{path}: not a model of CTranslate2: it has {path.stat().st_size} bytes")
        self._file = MappedFile(path)
        reader = HeaderReader(path, self._file.bytes.data)
        if (version := reader.scalar("<I")) != _VERSION:
            raise ValueError(
                f"{path}: binary version {version} of CTranslate2 is not supported, only {_VERSION}"
            )
        self.spec = _text(reader)
        self.revision = int(reader.scalar("<I"))
        self._entries: dict[str, _Entry] = {}
        for _ in range(reader.count("<I", "variables", _LEAST_VARIABLE)):
            name, entry = _variable(reader)
            if name in self._entries:
                raise ValueError(f"{path}: variable {name} is there twice")
            self._entries[name] = entry
        for _ in range(reader.count("<I", "aliases", _LEAST_ALIAS)):
            alias, name = _text(reader), _text(reader)
            target = self._entries.get(name)
            if target is None or self._entries.get(alias, target) is not target:
                raise ValueError(f"{path}: alias {alias} of {name} makes no sense")
            self._entries[alias] = target
            # The scale of quantised weights goes with them, and has no alias of its own.
            if (scale := self._entries.get(f"{name}_scale")) is not None:
                self._entries.setdefault(f"{alias}_scale", scale)
        for name, entry in self._entries.items():
            self._check_scale(name, entry)

    def _check_scale(self, name: str, entry: _Entry) -> None:
        """Raise unless a scale, if the tensor has one, is one number or one for each row, all above 0."""
        scale = self._entries.get(f"{name}_scale")
        if scale is None:
            return
        if scale.shape not in ((), (1,), entry.shape[:1]) or scale.dtype in _INTEGERS:
            raise ValueError(
                f"{self.path}: {name}_scale is {scale.dtype} {scale.shape}, which does not fit {entry.shape}"
            )
        numbers = self._raw(scale).astype(np.float32).reshape(-1)
        bad = ~(np.isfinite(numbers) & (numbers > 0))
        if bad.any():
            raise ValueError(
                f"{self.path}: {name}_scale must be finite and above 0, found {numbers[bad.argmax()]} in row "
                f"{bad.argmax()}"
            )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor of floats or scaled integers."""
        return {
            name: entry.shape
            for name, entry in self._entries.items()
            if entry.dtype not in _INTEGERS or f"{name}_scale" in self._entries
        }

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def number(self, name: str, default: float | None = None) -> float:
        """Return a variable that is a single number; without a default a missing one is an error."""
        entry = self._entries.get(name)
        if entry is None:
            if default is None:
                raise ValueError(f"{self.path}: {name} is missing")
            return default
        if math.prod(entry.shape) != 1:
            raise ValueError(f"{self.path}: {name} should be one number, but is {entry.shape}")
        return float(self._raw(entry).reshape(()))

    def tensor(self, name: str) -> NDArray[Any]:
        """Return the tensor `name` of `shapes`, a read-only view of the file unless it has a scale."""
        entry = self._entries[name]
        return self._scaled(name, self._raw(entry), slice(None))

    def rows(self, name: str, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of a matrix (R, C) as (..., C)."""
        return self._scaled(name, self._raw(self._entries[name])[numbers], numbers)

    def forget(self, name: str) -> None:
        """Let go of the memory in which the tensor `name` was read."""
        entry = self._entries[name]
        self._file.forget(entry.offset, entry.size)

    def _raw(self, entry: _Entry) -> NDArray[Any]:
        data = self._file.bytes[entry.offset : entry.offset + entry.size]
        tensor: NDArray[Any] = data.view(entry.dtype).reshape(entry.shape)
        return tensor

    def _scaled(self, name: str, data: NDArray[Any], numbers: Any) -> NDArray[Any]:
        """Turn integers of the rows `numbers` into what they stand for."""
        entry = self._entries.get(f"{name}_scale")
        if entry is None or data.dtype.kind != "i":
            return data
        scale = self._raw(entry).astype(np.float32)
        if scale.size != 1:
            scale = scale[numbers]
            scale = scale.reshape(*scale.shape, *(1,) * (data.ndim - scale.ndim))
        else:
            scale = scale.reshape(())
        # A scale of nearly nothing, in a broken file, makes infinities.
        with np.errstate(over="ignore"):
            result: NDArray[np.float32] = data.astype(np.float32) / scale
        return result


def _text(reader: HeaderReader) -> str:
    return reader.text("<H").removesuffix("\0")


def _variable(reader: HeaderReader) -> tuple[str, _Entry]:
    name = _text(reader)
    axes = reader.scalar("<B")
    if axes > 4:
        raise ValueError(f"{reader.path}: {name} has {axes} axes; up to 4 are possible")
    shape = tuple(int(reader.scalar("<I")) for _ in range(axes))
    kind = reader.scalar("<B")
    if kind >= len(_DTYPES):
        raise ValueError(f"{reader.path}: {name} has a dtype of number {kind}, which is not known")
    size = int(reader.scalar("<I"))
    entry = _Entry(shape, _DTYPES[kind], reader.position)
    if size != entry.size or not is_countable(shape, 8):
        raise ValueError(
            f"{reader.path}: {name} has {size} bytes, but as {entry.dtype} {shape} it takes {entry.size}"
        )
    reader.skip(size, name)
    return name, entry
