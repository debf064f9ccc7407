"""Output files that are written whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["whole_or_nothing"]


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
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
