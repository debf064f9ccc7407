"""Giving freed memory back to the system."""

from __future__ import annotations

import ctypes
import gc
from functools import cache

__all__ = ["trim"]


@cache
def _libc() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(None)
        library.malloc_trim  # noqa: B018  (only glibc has it)
    except (AttributeError, OSError, TypeError):
        return None
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library


def trim(*, objects: bool = False) -> None:
    """Give back what the allocator keeps of freed memory, where it can be told to.

    Parameters
    ----------
    objects
        Whether many Python objects were freed, of which Python, too, keeps some.

    Notes
    -----
    glibc keeps the holes that unpacked tensors leave between packed ones, and they would count as the
    process's memory until its end: while SmolLM2 is loaded with 4-bit weights, 20 MB beside 80.

    `attnlib.trim` gives back more, what threads that compute are about to use again: scratch memory and the
    blocks of large results. Loading trims after each tensor, some 200 times; with that one it would take as
    long and need as much, but calls of other threads, which use another model meanwhile, would take a tenth
    longer (a product with a result of 24 MB, while SmolLM2 is loaded).
    """
    if objects:
        gc.collect()
    library = _libc()
    if library is not None:
        library.malloc_trim(0)
