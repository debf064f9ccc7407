"""Fuzzes attnlib: random calls, and readers given mutated files.

    python tools/fuzz.py gguf --minutes 30 --seed 1
    python tools/fuzz.py calls layers safetensors --minutes 30
    python tools/fuzz.py calls --seed 1 --case 4711                 # that case again
    python tools/fuzz.py gguf --replay fuzz-findings/gguf-1-4711    # the files that were kept of it

A finding is a crash, a hang, memory by what a file says, an exception that is none of the documented ones, a
message that does not name the file, or a wrong result; the first of each kind is kept in a folder. Readers
are led by coverage of attnlib's Python lines. Cases run in processes of their own. The exit code is 1 if
there are findings.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fuzzing.corpus_entries import repeat_kept
from fuzzing.hunt import Hunt, hunt
from fuzzing.targets import TARGETS, make_target
from fuzzing.worker import rng_of


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "targets", nargs="+", choices=[*TARGETS, "all"], metavar="TARGET", help=", ".join(TARGETS)
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="for each target (default 30)")
    parser.add_argument("--cases", type=int, help="for each target, instead of --minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--case", type=int, help="make this case alone, in this process")
    parser.add_argument("--replay", type=Path, help="a kept finding of a reader: read its files again")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="where to keep them")
    options = parser.parse_args()
    targets = list(TARGETS) if "all" in options.targets else options.targets
    if options.case is not None or options.replay is not None:
        return _again(targets[0], options)
    results = []
    for target in targets:
        result = hunt(
            target,
            seed=options.seed,
            first=options.first,
            cases=options.cases,
            minutes=options.minutes if options.cases is None else 1e6,
            keep=options.findings,
            progress=_show if sys.stderr.isatty() else None,
        )
        results.append(result)
        print(f"\r{result}", flush=True)
        for report in result.reports:
            print(f"  case {report.number}, {result.kinds[report.kind]} times: {report.kind}", flush=True)
    hours = sum(result.seconds for result in results) / 3600
    findings = sum(len(result.kinds) for result in results)
    print(f"{hours:.2f} hours, {sum(result.cases for result in results):,} cases, {findings} findings")
    return 1 if findings else 0


def _show(result: Hunt) -> None:
    print(f"\r{result}", end="\x1b[K", file=sys.stderr, flush=True)


def _again(name: str, options: argparse.Namespace) -> int:
    """Make a case again, in this process, so that a debugger can look at it."""
    target = make_target(name)
    with tempfile.TemporaryDirectory() as scratch:
        target.start(Path(scratch))
        if options.replay is not None:
            repeat_kept(target, options.replay / "input" / "model")
        else:
            target.case(rng_of(name, options.seed, options.case))
        print(target.description)
    return 0


if __name__ == "__main__":
    sys.exit(main())
