"""Arrays in an npz file that nobody has to be trusted with: no pickles, no memory by what a header says."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.whole_file import whole_or_nothing

__all__ = ["read_npz", "write_npz"]


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of NumPy's own dtypes, uncompressed, to exactly this path, whole or not at all."""
    with whole_or_nothing(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array, order="C"), (1, 0), allow_pickle=False)


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_npz`, or ``np.savez``, has written.

    ``np.load`` makes an array as large as a member's header says before it reads a byte of it; here the bytes
    come first, of which there are no more than the file has, and the header must fit them.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is something else, cut off or compressed.
    """
    arrays = {}
    with path.open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                size = path.stat().st_size
                for member in archive.infolist():
                    stored = member.compress_type == zipfile.ZIP_STORED
                    if not stored or max(member.file_size, member.compress_size) > size:
                        raise ValueError(f"{member.filename} is compressed or larger than the file")
                    arrays[member.filename.removesuffix(".npy")] = _array(archive.read(member))
        # OSError: it seeks to where a damaged directory says.
        except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as error:
            raise ValueError(f"not an npz archive: {error}") from None
    return arrays


def _array(data: bytes) -> NDArray[Any]:
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("an array is of another version than 1.0")
    try:
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except Exception as error:  # it parses Python's syntax, and raises what its parsers raise
        raise ValueError(f"an array has a malformed header: {error}") from None
    if dtype.hasobject or fortran:
        raise ValueError(f"an array is of dtype {dtype}, {'by columns' if fortran else 'by rows'}")
    array: NDArray[Any] = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape).copy()
    return array
