"""Input files and standard input, which are UTF-8 whatever the locale says."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from typing import IO

__all__ = ["decoded_lines", "input_lines", "input_text"]

_INPUT = "standard input"


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


def input_lines() -> Iterator[str]:
    """Read the lines of standard input as they come; errors are those of `decoded_lines`."""
    return decoded_lines(sys.stdin.buffer, _INPUT)


def input_text() -> str:
    """Read all of standard input as one text, each of whose lines ends in a newline alone.

    Errors are those of `decoded_lines`.
    """
    data = sys.stdin.buffer.read()
    return "\n".join(decoded_lines(io.BytesIO(data), _INPUT)) + "\n" * data.endswith(b"\n")
