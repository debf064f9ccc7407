"""The command ``attnlib demo``: the operations beside plain NumPy."""

from __future__ import annotations

import argparse

from attnlib.commands.arguments import add_threads, use_threads

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object when all is done")
    add_threads(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    # Here, since most commands do not need what it imports.
    from attnlib import demo

    use_threads(options)
    demo.run(as_json=options.json, encoding=options.encoding)
