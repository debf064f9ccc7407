"""The ceilings of this machine: fused multiply-adds per second, bytes read per second.

They are measured in the same run as everything else, by the same clock, with the same threads: a share of a ceiling
from another machine, or from a data sheet, says nothing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ceilings"]

_SOURCE = Path(__file__).with_name("ceilings.c")
_FLAGS = ("-O3", "-march=native", "-fPIC", "-shared")

# About 8 ms of FMAs: long against starting the threads, short against a block.
_STEPS = 4_000_000
# Far more than any last-level cache.
_READ_BYTES = 512 << 20


class Ceilings:
    """Both ceilings as functions to be timed, built from ``ceilings.c`` for the CPU at hand.

    Parameters
    ----------
    threads
        From how many threads at once.

    Attributes
    ----------
    flops : int
        Floating-point operations of one call of `multiply_add`.
    bytes : int
        Bytes that one call of `read` reads.

    Raises
    ------
    RuntimeError
        If there is no C compiler (``CC``, cc, gcc or clang), or it fails.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._library = _build()
        self.flops: int = threads * _STEPS * self._library.fma_flops_per_step()
        count = _READ_BYTES // 4 // threads
        self._parts: list[NDArray[np.float32]] = [np.ones(count, np.float32) for _ in range(threads)]
        self.bytes = 4 * count * threads

    def multiply_add(self) -> None:
        """Keep the FMA units of all threads busy; ctypes releases the GIL."""
        self._on_all_threads(lambda _: self._library.fma_steps(_STEPS))

    def read(self) -> None:
        """Read an array that no cache holds, each thread its own part."""
        self._on_all_threads(lambda part: self._library.read_floats(part.ctypes.data, part.size))

    def _on_all_threads(self, function: Callable[[NDArray[np.float32]], Any]) -> None:
        if self._threads == 1:
            function(self._parts[0])
        else:
            list(self._pool.map(function, self._parts))


def _build() -> ctypes.CDLL:
    names = (os.environ.get("CC", ""), "cc", "gcc", "clang")
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    if compiler is None:
        raise RuntimeError("no C compiler found")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "ceilings.so"
        command = [compiler, *_FLAGS, "-o", str(library), str(_SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{compiler} failed: {done.stderr.strip()}")
        loaded = ctypes.CDLL(str(library))  # stays mapped when the file is gone
    loaded.fma_flops_per_step.argtypes, loaded.fma_flops_per_step.restype = [], ctypes.c_long
    loaded.fma_steps.argtypes, loaded.fma_steps.restype = [ctypes.c_long], ctypes.c_float
    loaded.read_floats.argtypes = [ctypes.c_void_p, ctypes.c_long]
    loaded.read_floats.restype = ctypes.c_float
    return loaded
