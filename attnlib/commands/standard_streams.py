"""Standard streams that are closed, or in an encoding that lacks our letters."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn, TextIO, cast

__all__ = ["closed_streams_explained", "write_utf8"]


class _Closed(io.TextIOBase):
    """Standard input or output that was closed before Python began: an error for who needs it."""

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def buffer(self) -> NoReturn:
        raise OSError(f"{self._name} is closed")

    def write(self, text: str) -> int:
        raise OSError(f"{self._name} is closed")


class _Unheard(io.TextIOBase):
    """Standard error that was closed: what is told there is lost, and no reason to fail."""

    def write(self, text: str) -> int:
        return len(text)


@contextmanager
def closed_streams_explained() -> Iterator[None]:
    """Let commands find streams where Python has none, since they were closed (``attnlib info >&-``).

    A command that reads standard input, or has written to standard output, then ends with an OSError that
    names it; one that does neither runs as always.
    """
    before = sys.stdin, sys.stdout, sys.stderr
    # None, whatever the type says.
    sys.stdin = sys.stdin or cast("TextIO", _Closed("standard input"))
    sys.stdout = sys.stdout or cast("TextIO", _Closed("standard output"))
    sys.stderr = sys.stderr or cast("TextIO", _Unheard())
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = before


def write_utf8() -> str:
    """Have standard output in UTF-8 from now on, whatever the locale says, and return what it was in.

    Programs read our lines, and know no more of the locale than those who wrote our input. A terminal keeps
    its encoding, and gets a question mark for each letter that it lacks.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    # What others have put in the place of standard output may be no such wrapper, and takes any text.
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", errors=sys.stdout.errors)
    return encoding
