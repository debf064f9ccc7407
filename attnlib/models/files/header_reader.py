"""Reading what a binary file says about itself, none of which is believed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

__all__ = ["HeaderReader"]


class HeaderReader:
    """A place in a file that goes on with what is read and never leaves the file.

    Parameters
    ----------
    path
        The file, which errors name.
    data
        Its bytes.

    Attributes
    ----------
    path
    position : int
        Where the next bytes are read.
    """

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path = path
        self.position = 0
        self._data = data

    def skip(self, size: int, what: str = "the header") -> int:
        """Go on by `size` bytes, which are those of `what`, and return where they begin.

        Raises
        ------
        ValueError
            If the file ends before; as from all that is below.
        """
        begin = self.position
        if size > len(self._data) - begin:
            raise ValueError(
                f"{self.path}: cut off: {what} wants {size} bytes from byte {begin} on, the file has "
                f"{len(self._data)}"
            )
        self.position += size
        return begin

    def take(self, size: int) -> bytes:
        """Copy the next `size` bytes."""
        begin = self.skip(size)
        return bytes(self._data[begin : begin + size])

    def scalar(self, layout: str) -> Any:
        """Read a number of a layout of `struct`."""
        return struct.unpack_from(layout, self._data, self.skip(struct.calcsize(layout)))[0]

    def count(self, layout: str, what: str, least: int) -> int:
        """Read how many entries of at least `least` bytes follow; errors call them `what`.

        More than fit in the file are refused here, before anybody makes a list of as many.
        """
        number = int(self.scalar(layout))
        if number > (len(self._data) - self.position) // least:
            raise ValueError(
                f"{self.path}: it says {number} {what} follow, more than fit in a file of "
                f"{len(self._data)} bytes"
            )
        return number

    def text(self, layout: str) -> str:
        """Read a number of bytes and so many bytes of UTF-8."""
        data = self.take(self.count(layout, "bytes of a text", 1))
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{self.path}: a text is not valid UTF-8: {error}") from None
