"""What a run is asked to do."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The command line of ``attnlib bench``, and what pytest-benchmark's cases take from it.

    Attributes
    ----------
    threads : int
        Of every engine.
    peers : bool
        Whether all engines take part, or attnlib and NumPy alone.
    workloads : tuple of str
        Only workloads whose names contain one of these; all if empty.
    output : str
        The folder to write into.
    model : str or None
        Folder of the sentence encoder; None: the one that the tests fetch.
    quick : bool
        One short block each: figures that show that it works, not how fast.
    """

    threads: int = 1
    peers: bool = False
    workloads: tuple[str, ...] = ()
    output: str = "."
    model: str | None = None
    quick: bool = False

    @property
    def rotations(self) -> int:
        """Blocks of each engine."""
        return 1 if self.quick else 3

    @property
    def most_rotations(self) -> int:
        """Blocks of each engine where blocks disagree."""
        return 1 if self.quick else 9

    @property
    def seconds(self) -> float:
        """Length of a block."""
        return 0.02 if self.quick else 0.25

    @property
    def rest(self) -> float:
        """Seconds of quiet before each block."""
        return 0.01 if self.quick else 0.15

    def to_json(self) -> str:
        """Spell it for the command line of a child process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Read what `to_json` wrote."""
        fields = json.loads(text)
        return cls(**{**fields, "workloads": tuple(fields["workloads"])})
