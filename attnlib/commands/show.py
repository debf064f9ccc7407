"""The command ``attnlib show``: a page that shows what a model attends to in a text."""

from __future__ import annotations

import argparse
from pathlib import Path

from attnlib.commands.arguments import use_threads
from attnlib.commands.files import input_text
from attnlib.commands.text_arguments import add_model

__all__ = ["add_arguments", "run"]

_TITLE = 120  # characters of the text above the page
# More lines nobody reads, and the weights of a large model would fill the memory before the page is refused.
_TOKENS = 512


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "text", metavar="TEXT", help="the text, or - for standard input; for an encoder-decoder the source"
    )
    add_model(parser)
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
    text = input_text() if options.text == "-" else options.text
    model = models.load(options.model, dtype=options.dtype)
    if isinstance(model, models.SpeechModel):
        raise ValueError(f"{options.model} is a model of speech, which reads no text")
    ids = model.tokenize([text])[0] if isinstance(model, models.SentenceEncoder) else model.encode(text)
    if (count := len(ids)) > _TOKENS:
        raise ValueError(f"the text has {count} tokens; a page shows at most {_TOKENS}")
    maps = viz.attention_weights(model, text, layers=options.layers)
    short = text if len(text) <= _TITLE else text[: _TITLE - 1] + "…"
    view = viz.head_view(maps, title=f"{name}: {short}")
    view.save(output)
    print(output)
