"""Workers, one after the other: what they find is counted and kept, and who dies is replaced."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .finding import Report
from .worker import CPU_SECONDS, work

__all__ = ["Hunt", "hunt"]

# Without news for so long, a worker waits for something that will not come. (Cases are bounded in the time of
# the processor that they may use, and the machine may be busy with other things.)
_SILENCE = 600.0


@dataclass
class Hunt:
    """What came of a run.

    Attributes
    ----------
    cases, seconds
        How many were made, and in which time of the clock.
    kinds
        How often each kind of finding came up.
    reports
        The first of each kind.
    """

    target: str
    seed: int
    cases: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    reports: list[Report] = field(default_factory=list)
    state: str = ""

    def __str__(self) -> str:
        return (
            f"{self.target}: seed {self.seed}, {self.seconds / 60:.1f} minutes, {self.cases:,} cases, "
            f"{len(self.kinds)} findings{f' in {sum(self.kinds.values())} cases' if self.kinds else ''}"
            f"{f'; {self.state}' if self.state else ''}"
        )


def hunt(
    target: str,
    *,
    seed: int = 0,
    first: int = 0,
    cases: int | None = None,
    minutes: float = 60.0,
    keep: Path | None = None,
    progress: Callable[[Hunt], None] | None = None,
) -> Hunt:
    """Make cases of a target for so many minutes, or so many cases.

    Parameters
    ----------
    target
        One of `fuzzing.targets.TARGETS`.
    seed, first
        Case `number` of a seed is always the same call; of a reader it also depends on the cases before it,
        since files that reach new lines are mutated further. Its files are kept.
    cases, minutes
        When to end.
    keep
        A folder for the first finding of each kind: ``report.txt``, and the files that did it.
    progress
        Told about how it goes every second or so.
    """
    result = Hunt(target, seed)
    began = time.time()
    until = began + 60 * minutes
    number, last = first, None if cases is None else first + cases
    # Forked from a process that has imported what takes long, and has done nothing else.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["attnlib.models", "safetensors.numpy", "tokenizers", "gguf"])
    while time.time() < until and (last is None or number < last):
        with tempfile.TemporaryDirectory(prefix="attnlib-fuzz-") as folder:
            scratch = Path(folder)
            ours, theirs = context.Pipe(duplex=False)
            arguments = (target, seed, number, last, until, scratch, theirs)
            process = context.Process(target=work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            ended = False
            try:
                while ours.poll(_SILENCE):
                    message = ours.recv()
                    if message is None:
                        ended = True
                        break
                    number, report, more = message
                    if report is not None:
                        _add(result, report, keep, Path(more) if more else None)
                    else:
                        result.state = more
                    result.cases, result.seconds = number - first, time.time() - began
                    if progress:
                        progress(result)
                else:
                    process.kill()
            except EOFError:
                pass
            process.join()
            if ended:
                break
            reached = scratch / "number"
            if not reached.is_file():
                raise RuntimeError(
                    f"fuzzing: the worker of {target} did not start: {_death(process.exitcode)}\n"
                    f"{_text(scratch / 'crash.txt')}"
                )
            number = int(reached.read_text() or number)
            details = _death(process.exitcode) + "\n" + _text(scratch / "crash.txt")
            where = next((line for line in details.splitlines() if 'File "' in line), "")
            report = Report(target, seed, number, f"{_death(process.exitcode)} {where.strip()}", details)
            inputs = scratch / "input"
            archive = shutil.make_archive(str(scratch / "crash"), "zip", inputs) if inputs.is_dir() else None
            _add(result, report, keep, Path(archive) if archive else None)
            number += 1
            result.cases = number - first
    result.seconds = time.time() - began
    return result


def _death(code: int | None) -> str:
    if code == -signal.SIGPROF:
        return f"hang: a case took {CPU_SECONDS} seconds of the processor"
    if code == -signal.SIGKILL:
        return f"killed: silent for {_SILENCE:.0f} s, or out of memory"
    if code is not None and code < 0:
        return f"crash: {signal.Signals(-code).name}"
    return f"crash: exit code {code}"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _add(result: Hunt, report: Report, keep: Path | None, archive: Path | None) -> None:
    result.kinds[report.kind] += 1
    if result.kinds[report.kind] > 1:
        return
    result.reports.append(report)
    if keep is not None:
        place = keep / f"{report.target}-{report.seed}-{report.number}"
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.txt").write_text(
            f"{report.target}, seed {report.seed}, case {report.number}: {report.kind}\n\n{report.details}\n",
            encoding="utf-8",
            errors="replace",
        )
        if archive is not None:
            shutil.unpack_archive(archive, place / "input")
