"""What a case may come to, and what is reported."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

import attnlib

__all__ = ["Finding", "Report", "signature"]

_ROOT = Path(attnlib.__file__).parent


class Finding(Exception):
    """Something that must not happen, though nothing was raised: a wrong result, a message without a name."""


@dataclass(frozen=True)
class Report:
    """One finding. Those that have the same `kind` are likely to be one fault."""

    target: str
    seed: int
    number: int
    kind: str
    details: str


def signature(error: BaseException) -> str:
    """Name an exception and the line of attnlib, or else of anything, that it came from."""
    frames = traceback.extract_tb((error.__cause__ or error).__traceback__)
    ours = [frame for frame in frames if _ROOT in Path(frame.filename).parents]
    place = (ours or frames)[-1:]
    where = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in place)
    what = str(error).partition(":")[0][:60] if isinstance(error, Finding) else ""
    return f"{type(error).__name__}{what and ' '}{what} at {where}"
