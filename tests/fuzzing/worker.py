"""The process in which cases are made: bounded in time and memory, and free to crash."""

from __future__ import annotations

import faulthandler
import gc
import os
import resource
import shutil
import signal
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from .finding import Finding, Report, signature
from .targets import make_target
from .targets.base import Target

__all__ = ["CPU_SECONDS", "MEMORY", "rng_of", "work"]

# Cases take milliseconds. One that takes this much of the processor hangs. (Not of the clock, which runs on
# while the machine does other things.)
CPU_SECONDS = 20

# Nothing here needs more than some megabytes: what asks for this much believes a number that it read.
MEMORY = 512 << 20


def rng_of(target: str, seed: int, number: int) -> np.random.Generator:
    """Return what a case draws from, so that it can be made again."""
    return np.random.default_rng([seed, number, *target.encode()])


def bound_memory() -> None:
    """Refuse this process more address space than it has, and `MEMORY`."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _begin(log: Path) -> Any:
    """Let a crash or a hang tell where it was, and libraries write what they write into the same file."""
    errors = log.open("ab", buffering=0)
    os.dup2(errors.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    faulthandler.enable(errors, all_threads=False)
    # The default action, to end the process, follows.
    faulthandler.register(signal.SIGPROF, errors, all_threads=False, chain=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("error")
    return errors


def work(
    target_name: str, seed: int, first: int, last: int | None, until: float, scratch: Path, wire: Connection
) -> None:
    """Make cases until it is time, telling `wire` what is found.

    Sent are the number of a case before it is made, now and then, and a `Report` for a finding; None at the
    end. Which case it was that crashed, the file `number` in `scratch` tells.
    """
    errors = _begin(scratch / "crash.txt")
    target = make_target(target_name)
    target.start(scratch)
    # Threads and the arenas of their mallocs are there before the bound is drawn.
    target.warm_up()
    bound_memory()
    told = 0.0
    number = first
    while time.time() < until and (last is None or number < last):
        (scratch / "number").write_text(str(number))
        report = attempt(target, target_name, seed, number)
        if report is not None:
            kept = shutil.make_archive(str(scratch / "input"), "zip", target.input) if target.input else None
            wire.send((number, report, kept))
        if time.time() - told > 1:
            told = time.time()
            wire.send((number, None, target.state()))
        number += 1
        if number % 500 == 0:
            gc.collect()
            errors.truncate(0)
    wire.send((number, None, target.state()))
    wire.send(None)
    wire.close()
    faulthandler.unregister(signal.SIGPROF)
    faulthandler.disable()
    errors.close()


def attempt(target: Target, name: str, seed: int, number: int) -> Report | None:
    """Make one case; return what is wrong, if anything is."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        target.case(rng_of(name, seed, number))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
        if grown > MEMORY // 2:
            raise Finding(f"memory: a case made the process grow by {grown >> 20} MB")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        details = "".join(traceback.format_exception(error))
        return Report(name, seed, number, signature(error), f"{details}\n{target.description}")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return None
