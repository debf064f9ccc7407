"""A file in memory whose pages can be let go of."""

from __future__ import annotations

import math
import mmap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["MappedFile", "is_countable"]

# Linux maps the cached pages around one that is read, as many as are in an aligned window of this size.
_WINDOW = max(64 << 10, mmap.PAGESIZE)


# Axes that an array may have.
_MOST_AXES = 32


def is_countable(shape: Sequence[int], item_size: int) -> bool:
    """Return whether NumPy makes arrays of this shape: an axis of 0 does not excuse the sizes of others."""
    return len(shape) <= _MOST_AXES and math.prod(max(size, 1) for size in shape) * item_size < 1 << 63


class MappedFile:
    """The bytes of a file that is not empty, read when they are touched.

    Attributes
    ----------
    bytes : (size,) uint8, read-only
    """

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._map, np.uint8)

    def forget(self, begin: int, size: int) -> None:
        """Let go of pages, once what they hold was packed: whoever reads them again reads the file again."""
        if size and hasattr(mmap, "MADV_DONTNEED"):
            end = min(-(-(begin + size) // _WINDOW) * _WINDOW, len(self._map))
            begin -= begin % _WINDOW
            self._map.madvise(mmap.MADV_DONTNEED, begin, end - begin)
