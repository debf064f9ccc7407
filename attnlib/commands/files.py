"""Input files of lines, and output files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["decoded_lines", "whole_or_nothing"]


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


@contextmanager
def whole_or_nothing(path: Path, mode: str) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name only if all goes well.

    Parameters
    ----------
    path
        The file to make or to replace; its folder must be there.
    mode
        As `open` takes it; text is UTF-8.

    Raises
    ------
    ValueError
        If there is something at `path` that is no file, such as a device, which must not be replaced.
    """
    path = path.resolve()  # what a link leads to is replaced, not the link
    if path.exists() and not path.is_file():
        raise ValueError(f"{path}: there is something that is not a regular file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
