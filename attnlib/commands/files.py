"""Input files of lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

__all__ = ["decoded_lines"]


def decoded_lines(file: IO[bytes], name: str) -> Iterator[str]:
    """Read the lines of a UTF-8 file called `name`, without what ends them.

    Raises
    ------
    ValueError
        At a line that is something else, with its number.
    """
    for number, line in enumerate(file, 1):
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: line {number} is not valid UTF-8: {error}") from None
