"""The command ``attnlib show``: a page that shows what a model attends to in a text."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from attnlib.commands.arguments import add_threads, use_threads
from attnlib.commands.files import whole_or_nothing

__all__ = ["add_arguments", "run"]

_TITLE = 120  # characters of the text above the page


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("text", metavar="TEXT", help="the text, or - for standard input")
    parser.add_argument(
        "--model", required=True, metavar="PATH", help="a model folder or a GGUF file, as load takes it"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the page to write, whole or not at all (default: the model's name with -attention.html, here)",
    )
    parser.add_argument(
        "--layer",
        dest="layers",
        action="append",
        type=int,
        metavar="N",
        help="only this layer, from 0; may be repeated (default: all)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8", "int4"),
        default="float32",
        help="what the weights become (default: float32)",
    )
    add_threads(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    # Here, since most commands do not need what these import.
    from attnlib import models, viz

    # The name of "." or "models/.." is that of the folder it leads to.
    name = Path(options.model).resolve().name.removesuffix(".gguf")
    output = Path(f"{name}-attention.html" if options.output is None else options.output)
    if output.is_dir() or not output.parent.is_dir():
        raise ValueError(
            f"--output {output}: " + ("is a folder" if output.is_dir() else "its folder does not exist")
        )
    use_threads(options)
    text = sys.stdin.read() if options.text == "-" else options.text
    model = models.load(options.model, dtype=options.dtype)
    maps = viz.attention_weights(model, text, layers=options.layers)
    short = text if len(text) <= _TITLE else text[: _TITLE - 1] + "…"
    view = viz.head_view(maps, title=f"{name}: {short}")
    with whole_or_nothing(output, "w") as file:
        file.write(view.html)
    print(output)
