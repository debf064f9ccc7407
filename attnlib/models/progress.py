"""A progress bar for what takes long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from attnlib.models.extras import require

__all__ = ["progress"]


@contextmanager
def progress(total: int | None, unit: str, *, shown: bool) -> Iterator[Callable[[int], object]]:
    """Show a bar on standard error, or none: the function given out takes how much was done since.

    Parameters
    ----------
    total
        How much there is to do, if that is known.
    unit
        Of what.
    shown
        Whether there is a bar at all.

    Raises
    ------
    ImportError
        If there is to be one, and tqdm is not installed.
    """
    if not shown:
        yield lambda done: None
        return
    with require("tqdm").tqdm(total=total, unit=unit) as bar:
        yield bar.update
