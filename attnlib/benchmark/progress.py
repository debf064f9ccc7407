"""How far it is, on standard error: a bar where somebody watches, lines where they are kept."""

from __future__ import annotations

import sys
from typing import Any

__all__ = ["Progress"]


class Progress:
    """Of so many workloads. The bar is tqdm's, on a terminal, if that is installed."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0
        self._bar: Any = None
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self._bar = tqdm(total=total, unit="workload", file=sys.stderr, dynamic_ncols=True)

    def begin(self, name: str) -> None:
        """Tell what is being measured."""
        if self._bar is not None:
            self._bar.set_description(name)

    def end(self, text: str) -> None:
        """Tell what came of it."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(1)
        self.note(f"[{self._done}/{self._total}] {text}")

    def note(self, text: str) -> None:
        """Print a line."""
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.close()
