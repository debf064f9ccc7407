"""The command ``attnlib translate``: texts from one language into another."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

from attnlib.commands.arguments import add_dtype, add_threads, use_threads
from attnlib.commands.files import input_lines
from attnlib.commands.terminal import shows_progress

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "text",
        nargs="?",
        default="-",
        metavar="TEXT",
        help="the text (default: -, standard input, a text a line)",
    )
    parser.add_argument(
        "--model",
        metavar="DIR",
        help="the folder of a model from text to text: Marian, T5 (default: a small one that comes with "
        "attnlib, from French to English)",
    )
    add_dtype(parser)
    parser.add_argument(
        "--show-attention",
        action="store_true",
        help="draw for each word where it looked in the source (not with --model; one sentence a text)",
    )
    parser.add_argument(
        "--list-words",
        action="store_true",
        help="list the French words that the small model knows, and stop (not with --model)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a text, or with all words")
    add_threads(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    # Here, since most commands do not need what these import.
    from attnlib import models
    from attnlib.models.progress import progress

    for option, asked in (("--show-attention", options.show_attention), ("--list-words", options.list_words)):
        if options.model is not None and asked:
            raise ValueError(f"{option} does not go with --model")
    if options.list_words:
        words = models.load_translator().words.source_words
        print(json.dumps({"words": words}, ensure_ascii=False) if options.json else "\n".join(words))
        return
    use_threads(options)
    translator: Any = (
        models.load_translator(dtype=options.dtype)
        if options.model is None
        else models.load(options.model, dtype=options.dtype)
    )
    if not isinstance(translator, models.TextToTextModel):
        raise ValueError(f"{options.model}: this model does not turn texts into texts")
    if translator.tokenizer is None:
        raise ValueError(f"{options.model}: the model has no tokenizer.json")
    from_input = options.text == "-"
    texts: Iterable[str] = input_lines() if from_input else [options.text]
    with progress(None, "text", shown=from_input and shows_progress()) as translated:
        for text in texts:
            # A line for a line, so that one can be laid beside the other.
            fields = (
                _translated(translator, text, options)
                if text.strip() or not from_input
                else {"translation": ""}
            )
            if options.json:
                print(json.dumps({"text": text, **fields}, ensure_ascii=False), flush=True)
            else:
                print(fields["translation"], flush=True)
                if "weights" in fields:
                    _draw(fields, options.encoding)
            translated(1)


def _translated(translator: Any, text: str, options: argparse.Namespace) -> dict[str, Any]:
    """Translate a text, and say where each word looked if that is asked for."""
    from attnlib import models

    if not isinstance(translator, models.Translator):
        return {"translation": translator.generate(text).text}
    fields: dict[str, Any] = {"translation": translator.translate(text)}
    if options.show_attention:
        alignment = translator.align(text)
        # Nine digits tell every float32 from its neighbours.
        weights = [[float(f"{weight:.9g}") for weight in row] for row in alignment.mean.tolist()]
        fields |= {"source": alignment.source, "target": alignment.target, "weights": weights}
    return fields


def _draw(fields: dict[str, Any], encoding: str) -> None:
    from attnlib.commands.translate_drawing import draw_attention

    print()
    print(draw_attention(fields["source"], fields["target"], fields["weights"], encoding=encoding))
