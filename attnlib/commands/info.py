"""The command ``attnlib info``: versions, instruction sets and threads."""

from __future__ import annotations

import argparse
import json

import attnlib

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    if options.json:
        print(json.dumps(attnlib.show_config(mode="dicts")))
    else:
        attnlib.show_config()
