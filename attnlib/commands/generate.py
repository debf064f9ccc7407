"""The command ``attnlib generate``: continue a prompt, on the terminal as it comes or as JSON."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from attnlib.commands.arguments import add_threads, use_threads

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--model", required=True, metavar="PATH", help="a GGUF file or a model folder")
    parser.add_argument("prompt", help="the text to continue, or - for standard input")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8", "int4"),
        default="float32",
        help="what the weights become (default: float32)",
    )
    parser.add_argument(
        "--chat",
        action="store_true",
        help="put the prompt into the model's chat template, as a user's message",
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=128, metavar="N", help="the most tokens (default: 128)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token each time (default: 0)"
    )
    parser.add_argument("--top-k", type=int, metavar="K", help="draw from the K likeliest tokens only")
    parser.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="draw from the likeliest P only"
    )
    parser.add_argument(
        "--min-p", type=float, default=0.0, metavar="P", help="of those P times as likely as the likeliest"
    )
    parser.add_argument(
        "--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1 repeats less (default: 1)"
    )
    parser.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="end before this text; may be repeated"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="for drawing the same again")
    parser.add_argument("--json", action="store_true", help="print one JSON object when all is done")
    add_threads(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    # Here, since most commands do not need what these import.
    from attnlib import models

    use_threads(options)
    model = models.load(options.model, dtype=options.dtype)
    if not isinstance(model, models.LanguageModel):
        raise ValueError(f"{options.model}: this model does not generate texts")
    if model.tokenizer is None:
        raise ValueError(f"{options.model}: the model has no tokenizer.json")
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if options.chat:
        prompt = model.tokenizer.chat([{"role": "user", "content": prompt}])
    settings: dict[str, Any] = {
        name: getattr(options, name)
        for name in (
            "max_new_tokens",
            "temperature",
            "top_k",
            "top_p",
            "min_p",
            "repetition_penalty",
            "stop",
            "seed",
        )
    }
    if options.json:
        result = model.generate(prompt, **settings)
        fields = {"text": result.text, "tokens": result.tokens, "finish_reason": result.finish_reason}
        print(json.dumps(fields, ensure_ascii=False))
        return
    start = time.perf_counter()
    written = ""
    for piece in model.stream(prompt, **settings):
        written += piece
        print(piece, end="", flush=True)
    print()
    if sys.stderr.isatty():
        count = len(model.tokenizer.encode(written, special=False))
        seconds = time.perf_counter() - start
        print(f"about {count} tokens, {count / seconds:.1f} a second, prompt included", file=sys.stderr)
