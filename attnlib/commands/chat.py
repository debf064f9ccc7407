"""The command ``attnlib chat``: a conversation on the terminal, or line by line through a pipe."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from attnlib.commands.files import input_lines
from attnlib.commands.text_arguments import (
    add_model,
    add_sampling,
    load_language_model,
    sampling_options,
    write,
)

if TYPE_CHECKING:
    from attnlib.models import Conversation
    from attnlib.models.generation.options import StreamOptions

__all__ = ["add_arguments", "run"]

_HINT = "/reset begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--system", metavar="TEXT", help="what the model is told before the conversation")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line for each answer")
    add_model(parser)
    add_sampling(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    # Here, since most commands do not need what it imports.
    from attnlib.models import Conversation

    model, _ = load_language_model(options)
    conversation = Conversation(model, system=options.system)
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    lines = _typed_lines() if interactive else input_lines()
    for turn, line in enumerate(lines):
        if line.strip() == "/exit":
            return
        if line.strip() == "/reset":
            conversation.reset()
        elif line.strip():
            settings = sampling_options(options)
            if options.seed is not None:
                settings["seed"] = options.seed + turn
            if interactive:
                _answer_typed(conversation, line, settings, options.json)
            else:
                _answer(conversation, line, settings, options.json)


def _answer(
    conversation: Conversation,
    line: str,
    settings: StreamOptions,
    as_json: bool,
    interrupts: list[int] | None = None,
) -> None:
    """Print the answer to one message, until an interrupt is noted."""
    stream = conversation.answer(line, **settings)
    if not as_json:
        write(stream, conversation.new_tokens, lambda: bool(interrupts))
        return
    for _ in stream:
        if interrupts:
            break
    result = stream.result
    fields = {"text": result.text, "tokens": result.tokens, "finish_reason": result.finish_reason}
    print(json.dumps(fields, ensure_ascii=False), flush=True)


def _answer_typed(conversation: Conversation, line: str, settings: StreamOptions, as_json: bool) -> None:
    """Print the answer to a message that was typed: nothing that goes wrong ends the conversation."""
    try:
        with _noted_interrupt() as interrupts:
            _answer(conversation, line, settings, as_json, interrupts)
    except KeyboardInterrupt:
        print()
    except ValueError as error:
        print(f"attnlib: error: {error}", file=sys.stderr)


def _typed_lines() -> Iterator[str]:
    """Ask for lines until there are no more."""
    with suppress(ImportError):
        import readline  # noqa: F401  (lines can then be edited and called back)
    print(f"({_HINT})", file=sys.stderr)
    while True:
        try:
            yield input("> ")
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print(f"\n({_HINT})", file=sys.stderr)


@contextmanager
def _noted_interrupt() -> Iterator[list[int]]:
    """Note a first Ctrl-C rather than break off in the midst of a token; a second one does that."""
    noted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
