"""The command ``attnlib bench``: attnlib timed beside NumPy and its peers."""

from __future__ import annotations

import argparse
from pathlib import Path

from attnlib.commands.arguments import positive

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--peers", action="store_true", help="beside all peers that are installed")
    parser.add_argument(
        "--output",
        default="bench-results",
        metavar="DIR",
        help="the folder to write into (default: bench-results)",
    )
    parser.add_argument(
        "--workloads",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="only those whose names contain one of these",
    )
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="folder of the sentence encoder (default: all-MiniLM-L6-v2 in the cache of the tests)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="to see that it works: short, and not to be believed"
    )
    parser.add_argument("--list", action="store_true", help="list the names of all workloads and stop")
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="threads of every engine (default: 1)"
    )


def run(options: argparse.Namespace) -> int:
    """Run the command."""
    # These take time to import.
    from attnlib.benchmark.options import Options
    from attnlib.benchmark.process import run_in_child
    from attnlib.benchmark.workloads import EVERYTHING, chosen

    if options.list:
        print("\n".join(workload.name for workload in EVERYTHING))
        return 0
    words = tuple(options.workloads)
    if not chosen(words):
        raise ValueError(f"no workload is called {' or '.join(words)}: attnlib bench --list names all")
    for folder in (options.output, options.model):
        if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
            raise ValueError(f"{folder} is not a folder")
    return run_in_child(
        Options(
            threads=options.threads,
            peers=options.peers,
            workloads=words,
            output=options.output,
            model=options.model,
            quick=options.quick,
        )
    )
