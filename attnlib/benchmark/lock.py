"""Taking turns with others who build or measure on the same machine.

`ATTNLIB_BENCH_LOCK` names a file that is locked exclusively (flock) while something is timed, and shared
while arrays and models are prepared. Without it, nothing is locked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["VARIABLE", "preparing", "timing"]

VARIABLE = "ATTNLIB_BENCH_LOCK"


@contextmanager
def timing() -> Iterator[None]:
    """Have the machine to oneself."""
    with _locked(exclusive=True):
        yield


@contextmanager
def preparing() -> Iterator[None]:
    """Keep those who time something waiting, but nobody else."""
    with _locked(exclusive=False):
        yield


@contextmanager
def _locked(*, exclusive: bool) -> Iterator[None]:
    path = os.environ.get(VARIABLE)
    if not path:
        yield
        return
    import fcntl

    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)
