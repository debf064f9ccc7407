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
    """
    if objects:
        gc.collect()
    library = _libc()
    if library is not None:
        library.malloc_trim(0)
