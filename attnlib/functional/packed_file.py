"""Packed weights in a file that several processes map.

A file is the 8 bytes ``ATTNPACK``; the version, 1, and the length of the header, in uint32; the header, JSON
in UTF-8: ``{"entries": {name: entry}}``; then the data, from a multiple of 64 on. An entry is ``{"format",
"shape", "group_size", "panel_width", "offset", "nbytes"}`` for a packed weight, whose panels are stored as
the kernels read them, or ``{"dtype", "shape", "offset", "nbytes"}`` for an array. Offsets are multiples of 64
and count from the beginning of the data. All is little-endian; only the panels' width depends on the rung.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attnlib._core import PackedWeight
from attnlib.whole_file import whole_or_nothing

__all__ = ["load_packed", "save_packed"]

_MAGIC = b"ATTNPACK"
_START = struct.Struct("<8sII")
_ALIGNMENT = 64
_FORMATS = ("float32", "float64", "float16", "bfloat16", "int8", "int4")
_DTYPES = {
    np.dtype(dtype).name: np.dtype(dtype)
    for dtype in (np.float32, np.float64, np.float16, ml_dtypes.bfloat16)
}


def save_packed(path: str | os.PathLike[str], weights: Mapping[str, PackedWeight | NDArray[Any]]) -> None:
    """Write packed weights, and arrays that belong to them, to a file for `load_packed`.

    The file takes the place of one that is there when it is whole: processes that have that one mapped keep
    it.

    Parameters
    ----------
    path
        Where to.
    weights
        By name: `PackedWeight`, stored as it lies in memory, or arrays of float32, float64, float16 or
        bfloat16.

    Raises
    ------
    TypeError, ValueError
        For a value that is neither; if there is something at `path` that is no file.

    Examples
    --------
    >>> import tempfile, numpy as np, attnlib as al
    >>> weight = al.pack_weight(np.ones((4, 3), np.float32), dtype="int8")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     al.save_packed(f"{folder}/model.packed", {"up": weight, "bias": np.zeros(4, np.float32)})
    ...     loaded = al.load_packed(f"{folder}/model.packed")
    >>> loaded["up"]
    PackedWeight(shape=(4, 3), dtype=int8)
    """
    entries: dict[str, dict[str, Any]] = {}
    data: list[NDArray[np.uint8]] = []
    offset = 0
    for name, value in weights.items():
        if isinstance(value, PackedWeight):
            kind, rows, columns, group_size, width, panels = value._stored()
            entry = {"format": kind, "shape": [rows, columns], "group_size": group_size, "panel_width": width}
        else:
            array = np.asarray(value)
            if array.dtype.name not in _DTYPES or not array.dtype.isnative:
                raise TypeError(
                    f"save_packed: {name!r} must be a PackedWeight, or an array of float32, float64, float16 "
                    f"or bfloat16, got {array.dtype}"
                )
            panels = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            entry = {"dtype": array.dtype.name, "shape": list(array.shape)}
        entries[name] = {**entry, "offset": offset, "nbytes": panels.size}
        data.append(panels)
        offset += panels.size + -panels.size % _ALIGNMENT
    # Offsets count from the beginning of the data, so that they do not move with the header's length.
    header = json.dumps({"entries": entries}).encode()
    header += b" " * (-(_START.size + len(header)) % _ALIGNMENT)
    with whole_or_nothing(Path(path), "wb") as file:
        file.write(_START.pack(_MAGIC, 1, len(header)))
        file.write(header)
        for panels in data:
            file.write(panels.data)
            file.write(bytes(-panels.size % _ALIGNMENT))


def load_packed(
    path: str | os.PathLike[str], *, mapped: bool = True
) -> dict[str, PackedWeight | NDArray[Any]]:
    """Read what `save_packed` has written.

    Parameters
    ----------
    path
        The file.
    mapped
        Whether weights stay in the file, which is mapped: nothing is read until it is used, and all processes
        that map the file share one copy of it in memory. It must not be changed in place while it is mapped.
        A weight whose panels are of another width than the kernels in use read (the file was written for
        another instruction set, see `isa`) is laid out anew, in memory of its own. Otherwise everything is
        read, which for products with few rows is somewhat faster later, as it comes to lie in huge pages.
        Default True.

    Returns
    -------
    dict of str to PackedWeight or ndarray
        In the order in which they were saved; mapped arrays are read-only. Results have the same bits as with
        the weights that were saved.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, of another version, cut off or damaged in what the header tells. The message
        names the file. What the weights themselves hold is not checked.

    Examples
    --------
    See `save_packed`.
    """
    try:
        return _read(Path(path), mapped)
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"load_packed: {path} is not a file of packed weights: {what}") from None


def _read(path: Path, mapped: bool) -> dict[str, PackedWeight | NDArray[Any]]:
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(_START.size)
        if len(start) < _START.size or start[:8] != _MAGIC:
            raise ValueError(f"it begins with {start[:8]!r}")
        _, version, header_bytes = _START.unpack(start)
        if version != 1:
            raise ValueError(f"its version is {version}, this attnlib reads 1")
        begin = _START.size + header_bytes
        if begin > size or begin % _ALIGNMENT:
            raise ValueError(f"its header has {header_bytes} bytes, the file {size}")
        header = json.loads(file.read(header_bytes))
        if not isinstance(header, dict) or not isinstance(header["entries"], dict):
            raise ValueError("its header lists no entries")
        memory: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    data = np.frombuffer(memory, np.uint8)[begin:]
    return {name: _entry(name, entry, data, mapped) for name, entry in header["entries"].items()}


def _entry(name: str, entry: Any, data: NDArray[np.uint8], mapped: bool) -> PackedWeight | NDArray[Any]:
    offset, nbytes = _size(name, entry["offset"]), _size(name, entry["nbytes"])
    if offset % _ALIGNMENT or offset + nbytes > data.size:
        raise ValueError(f"{name!r} lies at {offset} and has {nbytes} bytes, the file has {data.size}")
    part = data[offset : offset + nbytes]
    shape = [_size(name, extent) for extent in entry["shape"]]
    if "format" in entry:
        kind = entry["format"]
        if kind not in _FORMATS or len(shape) != 2:
            raise ValueError(f"{name!r} is of format {kind!r} and shape {shape}")
        group_size, width = _size(name, entry["group_size"]), _size(name, entry["panel_width"])
        try:
            return PackedWeight._from_stored(kind, shape[0], shape[1], group_size, width, not mapped, part)
        except ValueError as error:
            raise ValueError(f"{name!r}: {error}") from None
    dtype = _DTYPES[entry["dtype"]]
    if math.prod(shape) * dtype.itemsize != nbytes or len(shape) > 8:
        raise ValueError(f"{name!r} is {dtype} {shape} and has {nbytes} bytes")
    array: NDArray[Any] = part.view(dtype).reshape(shape)
    return array if mapped else array.copy()


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**62:
        raise ValueError(f"{name!r} has a size of {value!r}")
    return value
