"""Whether somebody watches."""

from __future__ import annotations

import importlib.util
import sys

__all__ = ["shows_progress"]


def shows_progress(*, to_file: bool = False) -> bool:
    """Return whether a command should show a progress bar: on a terminal, if tqdm is there to draw it.

    A bar between lines of output on the same terminal would help nobody.

    Parameters
    ----------
    to_file
        Whether the output goes to a file rather than to standard output. Default False.
    """
    watched = sys.stderr.isatty() and (to_file or not sys.stdout.isatty())
    return watched and importlib.util.find_spec("tqdm") is not None
