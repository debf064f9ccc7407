"""Blocks of calls, timed: what every figure of the benchmarks is made of."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

__all__ = ["Block", "Timing", "measure_block", "measure_turns"]

# Seconds of a block's first calls, untimed: the clock ramps up, threads wake, caches fill.
_WARM_UP = 0.05
_FEWEST_CALLS = 3
_MOST_CALLS = 2000
# Two blocks whose medians are as close as this confirm each other.
_CLOSE = 1.05


@dataclass(frozen=True)
class Block:
    """The calls of one block.

    Attributes
    ----------
    median, lower_quartile, upper_quartile : float
        Seconds of a call.
    calls : int
    others : float or None
        CPUs' worth of time that others (processes, the hypervisor) took meanwhile; None if the system does
        not tell.
    """

    median: float
    lower_quartile: float
    upper_quartile: float
    calls: int
    others: float | None


@dataclass(frozen=True)
class Timing:
    """The blocks of one function."""

    blocks: tuple[Block, ...]

    @property
    def best(self) -> Block:
        """The block with the smallest median: the one that was disturbed least."""
        return min(self.blocks, key=lambda block: block.median)

    @property
    def seconds(self) -> float:
        """Median of the best block."""
        return self.best.median

    @property
    def spread(self) -> float:
        """Interquartile range of the best block, as a share of its median.

        Of the blocks' medians instead, if a call fills a block.
        """
        lower, upper = self.best.lower_quartile, self.best.upper_quartile
        if self.best.calls == 1:
            lower, upper = np.percentile([block.median for block in self.blocks], [25, 75])
        return float(upper - lower) / self.seconds

    @property
    def drift(self) -> float:
        """How far the worst block's median lies above the best one's, as a share of it."""
        return max(block.median for block in self.blocks) / self.seconds - 1

    @property
    def confirmed(self) -> bool:
        """Whether a second block came close to the best one: else that, or all others, may be an accident."""
        first, second, *_ = (*sorted(block.median for block in self.blocks), math.inf)
        return second <= first * _CLOSE


def measure_block(function: Callable[[], Any], seconds: float) -> Block:
    """Call `function` for about so many seconds, a few times at least; once, if a call takes longer."""
    clock = time.perf_counter
    usage = _Usage()
    samples: list[float] = []

    def call() -> float:
        start = clock()
        function()
        samples.append(clock() - start)
        return samples[-1]

    if call() < seconds:
        warm = clock() + min(_WARM_UP, seconds)
        while clock() < warm:
            call()
        samples.clear()
        end = clock() + seconds
        while len(samples) < _FEWEST_CALLS or (clock() < end and len(samples) < _MOST_CALLS):
            call()
    lower, upper = np.percentile(samples, [25, 75])
    return Block(median(samples), float(lower), float(upper), len(samples), usage.of_others())


def measure_turns(
    functions: list[Callable[[], Any]],
    *,
    rotations: int,
    seconds: float,
    rest: float,
    most_rotations: int | None = None,
    alone: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> list[Timing]:
    """Time functions in turns: a block of each, a rest before it, and all that several times.

    The rest lets the idle workers of OpenMP, OpenBLAS and ONNX Runtime, which spin for a while after their
    work, go to sleep before somebody else is measured. Each rotation begins with another function, so that
    no one is always the first, or always measured at the same time of the run. `alone` is entered for each
    rotation: what must not happen meanwhile waits there.

    A neighbour of a virtual machine can halve its speed for minutes. So rotations go on, up to
    `most_rotations` of them, until each function's best block is confirmed by a second one.
    """
    blocks: list[list[Block]] = [[] for _ in functions]
    for rotation in range(max(rotations, most_rotations or 0)):
        if rotation >= rotations and all(Timing(tuple(found)).confirmed for found in blocks):
            break
        with alone():
            for place in range(len(functions)):
                index = (place + rotation) % len(functions)
                time.sleep(rest)
                blocks[index].append(measure_block(functions[index], seconds))
    return [Timing(tuple(found)) for found in blocks]


class _Usage:
    """CPU time since its making that was not this process's own, from Linux's ``/proc/stat``."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._before = self._read()

    @staticmethod
    def _read() -> float | None:
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        except OSError:
            return None
        # user nice system idle iowait irq softirq steal: all but idle and iowait, in ticks.
        busy = sum(int(fields[i]) for i in (1, 2, 3, 6, 7, 8))
        return busy / os.sysconf("SC_CLK_TCK") - time.process_time()

    def of_others(self) -> float | None:
        """CPUs' worth of time, 0 on a quiet machine; coarse, since the kernel counts in ticks of 10 ms."""
        now = self._read()
        if now is None or self._before is None:
            return None
        return max(0.0, (now - self._before) / (time.perf_counter() - self._start))
