"""The ceilings of this machine: operations per second that its instructions reach, bytes read per second.

They are measured in the same run as everything else, by the same clock, with the same threads: a share of a
ceiling from another machine, or from a data sheet, says nothing. The loops are kernels of the active rung
(``src/cpp/kernels/ceiling.hpp``), run from as many Python threads at once, which hold no GIL meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib import _core

__all__ = ["MEMORY", "Ceiling", "Ceilings"]

# Bytes that no cache holds.
MEMORY = 512 << 20

# A call takes some milliseconds: long against waking the threads, short against a block.
_STEPS = 1_000_000
_READ_BYTES = 128 << 20


@dataclass(frozen=True)
class Ceiling:
    """A function to be timed, and what it gets done in one call: operations, or bytes."""

    run: Callable[[], float]
    amount: float


class Ceilings:
    """The ceilings, from so many threads at once."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads)
        self._memory: Ceiling | None = None

    def find(self, kind: str | None, amount: float) -> Ceiling | None:
        """Return the ceiling of this kind (see `Workload`) for so much work; None if there is none here."""
        if kind is None or kind == "int4":
            return None
        if kind == "cache":
            return self.read(int(amount))
        if kind == "memory":
            self._memory = self._memory or self.read(MEMORY)
            return self._memory
        return self.multiply_add(kind)

    def multiply_add(self, dtype: str) -> Ceiling | None:
        """Multiply and add on all threads; None if the rung has no instruction for it in this dtype."""

        def run(_: object) -> float:
            return _core.ceiling_multiply_add(dtype, _STEPS)

        return self._on_all_threads(run, [None] * self._threads)

    def read(self, size: int) -> Ceiling:
        """Read so many bytes over and over, each thread its part: from the cache that holds them, if any."""
        count = max(size // 4 // self._threads, 1024)
        times = max(1, _READ_BYTES // 4 // self._threads // count)

        def run(part: NDArray[np.float32]) -> float:
            return _core.ceiling_read(part, times)

        ceiling = self._on_all_threads(run, [np.ones(count, np.float32) for _ in range(self._threads)])
        assert ceiling is not None
        return ceiling

    def _on_all_threads(self, function: Callable[[Any], float], parts: list[Any]) -> Ceiling | None:
        def run() -> float:
            if self._threads == 1:
                return function(parts[0])
            return sum(self._pool.map(function, parts))

        amount = run()
        return Ceiling(run, amount) if amount else None
