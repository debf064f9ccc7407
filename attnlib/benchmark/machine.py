"""What a run was made on, and what others did to it meanwhile."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from attnlib.benchmark.measure import Block

__all__ = ["disturbance", "processor"]

# CPUs' worth of time that others may take, in the mean, before a run is called noisy.
_QUIET = 0.05


def processor() -> str:
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


def disturbance(blocks: list[Block]) -> str:
    """Say how much of the CPUs others took while these blocks ran."""
    found = [block.others for block in blocks if block.others is not None]
    if not found:
        return "what others took of the CPUs meanwhile is not known"
    mean = sum(found) / len(found)
    verdict = "**NOT A QUIET MACHINE**, " if mean > _QUIET else ""
    return f"{verdict}CPUs taken by others meanwhile: {mean:.2f} in the mean, {max(found):.2f} at most"
