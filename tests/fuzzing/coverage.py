"""Which lines of attnlib's Python a case reaches: a mutated file that reaches new ones is mutated further."""

from __future__ import annotations

import sys
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import attnlib

__all__ = ["Coverage"]

# The readers, and what they call.
_WATCHED = tuple(
    str(Path(attnlib.__file__).parent / folder)
    for folder in ("models/files", "models/text", "models/audio", "models/families", "models/generation")
) + tuple(
    str(Path(attnlib.__file__).parent / file)
    for file in (
        "models/loading.py",
        "models/speech_loading.py",
        "models/pooling.py",
        "nn/npz_file.py",
        "nn/kv_cache_file.py",
        "functional/packed_file.py",
    )
)

# Lines in one file of which a case may have gone from one to the other: the edge, not the line, tells a loop
# that ended early from one that did not.
_Edge = tuple[CodeType, int, int]


class Coverage:
    """A context in which edges between lines are recorded.

    Attributes
    ----------
    known
        All that were seen.
    fresh
        How many the last use added.
    """

    def __init__(self) -> None:
        self.known: set[_Edge] = set()
        self.fresh = 0
        self._watched: dict[CodeType, bool] = {}

    def __enter__(self) -> None:
        self._before = len(self.known)
        sys.settrace(self._enter_frame)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        self.fresh = len(self.known) - self._before

    def _enter_frame(self, frame: FrameType, event: str, _: Any) -> Any:
        code = frame.f_code
        watched = self._watched.get(code)
        if watched is None:
            watched = self._watched[code] = code.co_filename.startswith(_WATCHED)
        if not watched:
            return None
        before, known = code.co_firstlineno, self.known

        def line(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal before
            if event == "line":
                known.add((code, before, frame.f_lineno))
                before = frame.f_lineno
            return line

        return line
