"""The ceilings of this machine: fused multiply-adds per second, bytes read per second.

They are measured in the same run as everything else, by the same clock, with the same threads: a share of a
ceiling from another machine, or from a data sheet, says nothing.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["MEMORY", "Ceiling", "Ceilings"]

_SOURCE = Path(__file__).with_name("ceilings.c")
_FLAGS = ("-O3", "-march=native", "-fPIC", "-shared")

# Bytes that no cache holds.
MEMORY = 512 << 20

# A call takes some milliseconds: long against waking the threads, short against a block.
_STEPS = 4_000_000
_READ_BYTES = 256 << 20


@dataclass(frozen=True)
class Ceiling:
    """A function to be timed, and what it gets done in one call: floating-point operations, or bytes."""

    run: Callable[[], None]
    amount: float


class Ceilings:
    """The ceilings, from ``ceilings.c`` built for the CPU at hand.

    Parameters
    ----------
    threads
        From how many threads at once.

    Raises
    ------
    RuntimeError
        If there is no C compiler (``CC``, cc, gcc or clang), or it fails.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._library = _build()

    def multiply_add(self) -> Ceiling:
        """Keep the FMA units of all threads busy, in float32."""

        def run(_: object) -> None:
            self._library.fma_steps(_STEPS)  # ctypes releases the GIL

        amount = self._threads * _STEPS * self._library.fma_flops_per_step()
        return Ceiling(self._on_all_threads(run, [None] * self._threads), float(amount))

    def read(self, size: int) -> Ceiling:
        """Read so many bytes over and over, each thread its part: from the cache that holds them, if any."""
        count = max(size // 4 // self._threads, 1024)
        times = max(1, _READ_BYTES // 4 // self._threads // count)

        def run(part: NDArray[np.float32]) -> None:
            self._library.read_floats(part.ctypes.data, part.size, times)

        parts = [np.ones(count, np.float32) for _ in range(self._threads)]
        return Ceiling(self._on_all_threads(run, parts), 4.0 * count * times * self._threads)

    def _on_all_threads(self, function: Callable[[Any], None], parts: list[Any]) -> Callable[[], None]:
        if self._threads == 1:
            return lambda: function(parts[0])

        def run() -> None:
            list(self._pool.map(function, parts))

        return run


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
    loaded.read_floats.argtypes = [ctypes.c_void_p, ctypes.c_long, ctypes.c_long]
    loaded.read_floats.restype = ctypes.c_float
    return loaded
