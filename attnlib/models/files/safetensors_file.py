"""Weights from a memory-mapped safetensors file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attnlib.models.extras import require
from attnlib.models.files.mapped_file import MappedFile, is_countable

__all__ = ["SafetensorsFile"]

# The weights of a model are floats; integer tensors (position ids and such) are left alone.
_DTYPES = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
}


class SafetensorsFile:
    """The float tensors of one file, as read-only views of its memory map.

    Nothing is read before it is used, and processes that load the same file share its pages. The file must
    not be truncated or overwritten while a view is in use; replacing it by a rename does no harm.

    Parameters
    ----------
    path
        The file.
    checked
        Whether to have the library safetensors check it first. Default True; a file that comes with attnlib
        needs no check, and where it is read the library may not be installed.

    Attributes
    ----------
    metadata
        Texts that stand beside the tensors.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is truncated or inconsistent. The message begins with its path.
    """

    def __init__(self, path: Path, *, checked: bool = True) -> None:
        self.path = path
        safetensors = require("safetensors") if checked else None
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file")
        if safetensors is not None:
            try:
                # The library checks the header against the file: sizes, offsets, overlaps, gaps.
                with safetensors.safe_open(os.fspath(path), framework="np"):
                    pass
            except safetensors.SafetensorError as error:
                raise ValueError(f"{path}: not a valid safetensors file: {error}") from None
        # It gives out only copies, though, so the offsets are read again here, and the file is mapped.
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(header_size))
        self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}  # null is none
        self._entries = {name: entry for name, entry in header.items() if entry["dtype"] in _DTYPES}
        self._other = {
            name: str(entry["dtype"]) for name, entry in header.items() if name not in self._entries
        }
        for name, entry in self._entries.items():
            if not is_countable(entry["shape"], _DTYPES[entry["dtype"]].itemsize):
                raise ValueError(f"{path}: tensor {name} has a shape that no array has: {entry['shape']}")
        self._file = MappedFile(path)
        self._start = 8 + header_size

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each float tensor."""
        return {name: tuple(entry["shape"]) for name, entry in self._entries.items()}

    @property
    def other_dtypes(self) -> dict[str, str]:
        """The tensors that are not floats, and what they are in the file's own words."""
        return dict(self._other)

    def tensor(self, name: str) -> NDArray[Any]:
        """Return the tensor `name` of `shapes`, a read-only view of the file."""
        entry = self._entries[name]
        begin, end = entry["data_offsets"]
        data = self._file.bytes[self._start + begin : self._start + end]
        tensor: NDArray[Any] = data.view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return tensor

    def rows(self, name: str, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of the matrix `name`, (..., C)."""
        rows: NDArray[Any] = self.tensor(name)[numbers]
        return rows

    def forget(self, name: str) -> None:
        """Let go of the memory in which the tensor `name` was read."""
        begin, end = self._entries[name]["data_offsets"]
        self._file.forget(self._start + begin, end - begin)
