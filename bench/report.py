"""What a run found, as a Markdown table and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import geometric_mean, median

from measure import Block, Timing
from workloads import Workload

__all__ = ["Report", "Result"]

OURS = "attnlib"

# CPUs' worth of time that others may take, in the mean, before a run is called noisy.
_QUIET = 0.05


@dataclass(frozen=True)
class Result:
    """What a workload took.

    Attributes
    ----------
    timings, ways : dict
        By engine: its time, and how it was called.
    ceiling : float or None
        Floating-point operations per second that the machine could do, or bytes per second that it could read
        from where so many of them live: measured in turns with the engines.
    """

    workload: Workload
    timings: dict[str, Timing]
    ways: dict[str, str]
    ceiling: float | None

    @property
    def best_peer(self) -> str | None:
        """The fastest of the others."""
        peers = {name: timing.seconds for name, timing in self.timings.items() if name != OURS}
        return min(peers, key=lambda name: peers[name]) if peers else None

    @property
    def ratio(self) -> float | None:
        """How many times as long as attnlib the fastest peer takes."""
        if OURS not in self.timings or self.best_peer is None:
            return None
        return self.timings[self.best_peer].seconds / self.timings[OURS].seconds


@dataclass
class Report:
    """The results of a run, and what they were found on and with."""

    versions: dict[str, str]
    threads: int
    rotations: int
    memory: float | None = None
    results: list[Result] = field(default_factory=list)

    def markdown(self) -> str:
        """Return the table and the notes below it."""
        times = [f"{name}, µs" for name in self.versions]
        head = ["workload", *times, "best peer / attnlib", "attnlib", "of ceiling"]
        lines = [_row(head), "|---" + "|---:" * (len(head) - 1) + "|"]
        lines += [_row(self._cells(result)) for result in self.results]
        return "\n".join([*lines, "", *(f"- {line}" for line in self._notes())])

    def json(self) -> str:
        """Return everything, each block included."""
        found = {
            "processor": _processor(),
            "threads": self.threads,
            "versions": self.versions,
            "flops_per_second": self._flops,
            "memory_bytes_per_second": self.memory,
            "workloads": [
                {
                    "name": result.workload.name,
                    "flops": result.workload.flops,
                    "bytes": result.workload.bytes,
                    "texts": result.workload.texts,
                    "ceiling_per_second": result.ceiling,
                    "best_peer": result.best_peer,
                    "ratio": result.ratio,
                    "engines": {
                        name: {
                            "way": result.ways[name],
                            "seconds": timing.seconds,
                            "blocks": [asdict(block) for block in timing.blocks],
                        }
                        for name, timing in result.timings.items()
                    },
                }
                for result in self.results
            ],
        }
        return json.dumps(found, indent=1) + "\n"

    @property
    def _flops(self) -> float | None:
        """The best that the FMA units did in the run: a clock that sank for a while is no lower ceiling."""
        return max((r.ceiling for r in self.results if r.ceiling and r.workload.flops), default=None)

    def _cells(self, result: Result) -> Iterator[str]:
        workload = result.workload
        yield workload.name
        for name in self.versions:
            timing = result.timings.get(name)
            yield f"{timing.seconds * 1e6:,.0f} ±{50 * timing.spread:.0f} %" if timing else ""
        yield f"{result.ratio:.2f}" if result.ratio else ""
        if OURS not in result.timings:
            yield from ("", "")
            return
        seconds = result.timings[OURS].seconds
        if workload.texts:
            yield from (f"{workload.texts / seconds:,.0f} texts/s", "")
            return
        rate = (workload.flops or workload.bytes) / seconds
        ceiling = self._flops if workload.flops else result.ceiling
        yield f"{rate / 1e9:,.0f} {'GFLOP/s' if workload.flops else 'GB/s'}"
        yield f"{100 * rate / ceiling:.0f} %" if ceiling else ""

    def _notes(self) -> Iterator[str]:
        yield f"{_processor()}; threads: {self.threads}; Python {platform.python_version()}"
        yield ", ".join(f"{name} {version}" for name, version in self.versions.items())
        if self._flops:
            yield f"ceiling of float32 FMAs: {self._flops / 1e9:.0f} GFLOP/s"
        if self.memory:
            yield (
                f"ceiling of reading memory: {self.memory / 1e9:.1f} GB/s; what is in GB/s is held to "
                "that of reading as many bytes as it moves over and over, from whichever cache holds them"
            )
        ratios = [result.ratio for result in self.results if result.ratio]
        if ratios:
            yield (
                f"best peer / attnlib: {min(ratios):.2f} at the least, {geometric_mean(ratios):.2f} in the "
                "geometric mean"
            )
        timings = [timing for result in self.results for timing in result.timings.values()]
        if timings:
            drifts = [100 * timing.drift for timing in timings]
            yield (
                f"medians of the best of {self.rotations} blocks, ± half the interquartile range; worst "
                f"block over best: {median(drifts):.0f} % in the median, {max(drifts):.0f} % at most"
            )
            yield _disturbance([block for timing in timings for block in timing.blocks])
        for result in self.results:
            ways = (f"{name}: {way}" for name, way in result.ways.items() if name != way)
            yield f"{result.workload.name}: {'; '.join(ways)}"


def _row(cells: list[str] | Iterator[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _disturbance(blocks: list[Block]) -> str:
    found = [block.others for block in blocks if block.others is not None]
    if not found:
        return "what others took of the CPUs meanwhile is not known"
    mean = sum(found) / len(found)
    verdict = "**NOT A QUIET MACHINE**, " if mean > _QUIET else ""
    return f"{verdict}CPUs taken by others meanwhile: {mean:.2f} in the mean, {max(found):.2f} at most"


def _processor() -> str:
    """Name the CPU, and say how many of them this process may use."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    if "model name" in fields:
        name = f"{fields['model name']} (family {fields.get('cpu family')}, model {fields.get('model')})"
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}, {count} CPUs"
