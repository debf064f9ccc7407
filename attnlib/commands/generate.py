"""The command ``attnlib generate``: continue a prompt, on the terminal as it comes or as JSON."""

from __future__ import annotations

import argparse
import json

from attnlib.commands.files import input_text
from attnlib.commands.text_arguments import (
    add_model,
    add_sampling,
    load_language_model,
    sampling_options,
    write,
)

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("prompt", help="the text to continue, or - for standard input")
    parser.add_argument(
        "--chat",
        action="store_true",
        help="put the prompt into the model's chat template, as a user's message",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object when all is done")
    add_model(parser)
    add_sampling(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    model, tokenizer = load_language_model(options)
    prompt = input_text() if options.prompt == "-" else options.prompt
    if options.chat:
        ids = tokenizer.encode_chat([{"role": "user", "content": prompt}])
    else:
        ids = tokenizer.encode(prompt)
    if options.json:
        result = model.generate(ids, **sampling_options(options))
        fields = {"text": result.text, "tokens": result.tokens, "finish_reason": result.finish_reason}
        print(json.dumps(fields, ensure_ascii=False))
        return
    write(model.stream(ids, **sampling_options(options)), len(ids))
