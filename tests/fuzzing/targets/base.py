"""What every target has."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["Target"]


class Target:
    """Makes cases.

    Attributes
    ----------
    input
        The folder with the files of the case that was made last, if it reads any.
    description
        That case in words, for a report.
    """

    input: Path | None = None
    description: str = ""

    def start(self, scratch: Path) -> None:
        """Make what all cases begin with, in a folder of their own."""

    def warm_up(self) -> None:
        """Do once whatever starts threads or fills caches."""

    def case(self, rng: np.random.Generator) -> None:
        """Make one case. Whatever it raises is a finding."""
        raise NotImplementedError

    def state(self) -> str:
        """Tell in a few words how far it is."""
        return ""
