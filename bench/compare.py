"""attnlib and its peers side by side in one run, with the ceilings of the machine beside them.

    python bench/compare.py --threads 1 --workloads attention --json results.json

prints a Markdown table on standard output and its progress on standard error; see README.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engines import NAMES, Unavailable, load
from threads import limit_threads

if TYPE_CHECKING:  # these load NumPy, whose BLAS must know its threads by then
    from ceilings import Ceilings
    from engines.engine import Engine
    from report import Result
    from workloads import Workload


def main() -> int:
    """Run the comparison; the exit status is 1 if results disagree."""
    options = parse()
    limit_threads(options.threads)
    if options.model:
        os.environ["ATTNLIB_TEST_MODELS"] = str(options.model.resolve())

    from agreement import Disagreement
    from report import Report
    from workloads import EVERYTHING, TABLE

    words = options.workloads
    chosen = [w for w in EVERYTHING if any(word in w.name for word in words)] if words else TABLE
    if options.list or not chosen:
        print("\n".join(workload.name for workload in EVERYTHING))
        return 0 if options.list else 2

    engines = load_engines(options.engines, options.threads)
    ceilings = load_ceilings(options.threads)
    report = Report(
        versions={name: engine.version for name, engine in engines.items()},
        threads=options.threads,
        rotations=options.rotations,
    )
    if ceilings:
        report.memory = memory_ceiling(ceilings, options)
    failed = False
    for workload in chosen:
        note(workload.name, end=": ")
        try:
            result = compare(workload, engines, ceilings, options)
        except Disagreement as error:
            failed = True
            note(f"FAILED, {error}")
        except FileNotFoundError as error:
            note(f"left out, {error}")
        else:
            report.results.append(result)
            note(", ".join(f"{name} {t.seconds * 1e6:,.0f} µs" for name, t in result.timings.items()))
    print(report.markdown())
    if options.json:
        options.json.write_text(report.json())
    return int(failed)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="Compare attnlib with its peers.", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    threads = int(os.environ.get("ATTNLIB_BENCH_THREADS", "1"))
    parser.add_argument("--threads", type=int, default=threads, help="of every engine")
    parser.add_argument("--workloads", nargs="+", metavar="TEXT", help="only names that contain one of these")
    parser.add_argument("--engines", nargs="+", choices=NAMES, default=NAMES, help="only these")
    parser.add_argument("--rotations", type=int, default=5, help="blocks of each engine")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of a block")
    parser.add_argument("--rest", type=float, default=0.4, help="seconds before each block")
    parser.add_argument("--model", type=Path, help="folder of the sentence encoder")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every block there")
    parser.add_argument("--list", action="store_true", help="list all workloads and stop")
    options = parser.parse_args()
    if options.rotations < 1 or options.threads < 1:
        parser.error("--rotations and --threads must be positive")
    return options


def load_engines(names: list[str], threads: int) -> dict[str, Engine]:
    """Load those that are installed, in the table's order."""
    engines = {}
    for name in NAMES:
        if name in names:
            try:
                engines[name] = load(name, threads)
            except Unavailable as reason:
                note(f"left out: {reason}")
    return engines


def load_ceilings(threads: int) -> Ceilings | None:
    """Build the ceilings, if there is a C compiler."""
    from ceilings import Ceilings

    try:
        return Ceilings(threads)
    except RuntimeError as error:
        note(f"no ceilings: {error}")
        return None


def memory_ceiling(ceilings: Ceilings, options: argparse.Namespace) -> float:
    """Bytes per second, read from memory that no cache holds."""
    from ceilings import MEMORY
    from measure import measure_turns

    ceiling = ceilings.read(MEMORY)
    (timing,) = measure_turns(
        [ceiling.run], rotations=options.rotations, seconds=options.seconds, rest=options.rest
    )
    return ceiling.amount / timing.seconds


def compare(
    workload: Workload, engines: dict[str, Engine], ceilings: Ceilings | None, options: argparse.Namespace
) -> Result:
    """Check that the engines agree, then time each one's fastest way, and the ceiling, in turns.

    Raises
    ------
    Disagreement
        If they do not agree.
    FileNotFoundError
        If the workload needs a model that is not there.
    """
    from agreement import check, fastest
    from measure import measure_turns
    from report import Result

    inputs = workload.inputs()
    calls = {name: engine.calls(workload.operation, inputs) for name, engine in engines.items()}
    # What NumPy gives is what the formula says: it is the one to agree with, if it is there.
    expected = None
    for name in sorted(filter(calls.get, calls), key=lambda name: name != "NumPy"):
        expected = check(name, calls[name], expected)
    best = {name: fastest(calls[name]) for name in engines if calls[name]}
    functions = [call.run for call in best.values()]
    ceiling = None
    if ceilings is not None and (workload.flops or workload.bytes):
        ceiling = ceilings.multiply_add() if workload.flops else ceilings.read(int(workload.bytes))
        functions.append(ceiling.run)
    timings = measure_turns(
        functions, rotations=options.rotations, seconds=options.seconds, rest=options.rest
    )
    return Result(
        workload,
        timings=dict(zip(best, timings, strict=False)),
        ways={name: call.way for name, call in best.items()},
        ceiling=ceiling.amount / timings[-1].seconds if ceiling else None,
    )


def note(text: str, end: str = "\n") -> None:
    """Tell how far it is, apart from the table."""
    print(text, end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
