"""Arguments that several commands take."""

from __future__ import annotations

import argparse

import attnlib

__all__ = ["add_dtype", "add_threads", "positive", "use_threads"]


def positive(text: str) -> int:
    """Convert an argument to an integer of at least 1, as `argparse` wants it of a type."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Declare ``--dtype``, as `attnlib.models.load` takes it of models that write."""
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8", "int4"),
        default="float32",
        help="what the weights become (default: float32)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare ``--threads``, which `use_threads` heeds."""
    parser.add_argument(
        "--threads", type=positive, metavar="N", help="threads to use (default: all there are)"
    )


def use_threads(options: argparse.Namespace) -> None:
    """Set the number of threads that ``--threads`` asks for, if it does."""
    if options.threads is not None:
        attnlib.set_num_threads(options.threads)
