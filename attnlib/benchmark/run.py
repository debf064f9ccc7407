"""The run itself, in a process whose environment limits threads already."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from attnlib.benchmark import plots, texts
from attnlib.benchmark.ceilings import Ceilings
from attnlib.benchmark.contest import Contest
from attnlib.benchmark.engines import NAMES, OURS, PLAIN, Unavailable, load
from attnlib.benchmark.engines.engine import Engine
from attnlib.benchmark.options import Options
from attnlib.benchmark.progress import Progress
from attnlib.benchmark.report import Report
from attnlib.benchmark.workloads import chosen
from attnlib.whole_file import whole_or_nothing

__all__ = ["main"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(options_json: str) -> int:
    """Measure, and write what was found; the exit code is 1 if attnlib's results are wrong."""
    # Told to end, it writes what it has, as when it is interrupted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = Options.from_json(options_json)
    if options.model is not None:
        texts.use_model(Path(options.model))
    workloads = chosen(options.workloads)
    progress = Progress(len(workloads))
    engines = _load_engines(options, progress)
    contest = Contest(engines, Ceilings(options.threads), options)
    report = Report({name: engine.version for name, engine in engines.items()}, options)
    code = 0
    try:
        for workload in workloads:
            progress.begin(workload.name)
            try:
                result = contest.run(workload)
            except FileNotFoundError as error:
                report.left_out.append(f"{workload.name}: {error}")
                progress.end(report.left_out[-1])
                continue
            report.results.append(result)
            progress.end(report.line(result))
    except KeyboardInterrupt:
        code = _INTERRUPTED
    finally:
        progress.close()
    for failure in contest.failures:
        print(f"attnlib: wrong result: {failure}", file=sys.stderr)
        code = code or 1
    _write(report, Path(options.output))
    return code


def _load_engines(options: Options, progress: Progress) -> dict[str, Engine]:
    """Load those that are installed, in the table's order."""
    engines = {}
    for name in NAMES if options.peers else (OURS, PLAIN):
        try:
            engines[name] = load(name, options.threads)
        except Unavailable as reason:
            progress.note(f"left out: {reason}")
    return engines


def _write(report: Report, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    written = ["results.json", "results.md"]
    for name, text in zip(written, (report.json(), report.markdown()), strict=True):
        with whole_or_nothing(folder / name, "w") as file:
            file.write(text)
    try:
        written += plots.write(report, folder)
    except ImportError as error:
        print(f"attnlib: no plots: {error}", file=sys.stderr)
    print(report.summary())
    print(f"written to {folder}: {', '.join(written)}")
