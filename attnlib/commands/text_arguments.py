"""What `generate` and `chat` share: the model, how tokens are chosen, and how fast they came."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from attnlib.commands.arguments import add_dtype, add_threads, positive, use_threads

if TYPE_CHECKING:
    from attnlib.models import LanguageModel
    from attnlib.models.generation.options import StreamOptions
    from attnlib.models.generation.stream import GenerationStream
    from attnlib.models.text.text_tokenizer import TextTokenizer

__all__ = ["add_model", "add_sampling", "load_language_model", "sampling_options", "write"]


def add_model(parser: argparse.ArgumentParser) -> None:
    """Declare which model to run and how; `load_language_model` heeds it."""
    parser.add_argument("--model", required=True, metavar="PATH", help="a GGUF file or a model folder")
    add_dtype(parser)
    add_threads(parser)


def load_language_model(options: argparse.Namespace) -> tuple[LanguageModel, TextTokenizer]:
    """Load the model that the arguments name, and its tokenizer.

    Raises
    ------
    ValueError
        If it is no language model, or has no tokenizer.
    """
    # Here, since most commands do not need what these import.
    from attnlib import models

    use_threads(options)
    model = models.load(options.model, dtype=options.dtype)
    if isinstance(model, models.TextToTextModel):
        raise ValueError(f"{options.model}: this model turns texts into texts: attnlib translate --model")
    if not isinstance(model, models.LanguageModel):
        raise ValueError(f"{options.model}: this model does not generate texts")
    if model.tokenizer is None:
        raise ValueError(f"{options.model}: the model has no tokenizer.json")
    return model, model.tokenizer


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Declare how tokens are chosen and when they end; `sampling_options` collects it."""
    parser.add_argument(
        "--max-new-tokens", type=positive, default=128, metavar="N", help="the most tokens (default: 128)"
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the likeliest token each time (default: 0)"
    )
    parser.add_argument("--top-k", type=positive, metavar="K", help="draw from the K likeliest tokens only")
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


def sampling_options(options: argparse.Namespace) -> StreamOptions:
    """Collect the arguments of `add_sampling` for `LanguageModel.generate` and `stream`."""
    return {
        "max_new_tokens": options.max_new_tokens,
        "temperature": options.temperature,
        "top_k": options.top_k,
        "top_p": options.top_p,
        "min_p": options.min_p,
        "repetition_penalty": options.repetition_penalty,
        "stop": options.stop,
        "seed": options.seed,
    }


def write(stream: GenerationStream, prompt_tokens: int, stopped: Callable[[], bool] = lambda: False) -> None:
    """Print a text as it comes, and on a terminal how fast that was.

    Parameters
    ----------
    stream
        What generates it.
    prompt_tokens
        How many tokens of the prompt are run before the first piece.
    stopped
        Asked after each piece whether to stop there.
    """
    start = first = time.perf_counter()
    for number, piece in enumerate(stream):
        if number == 0:
            first = time.perf_counter()
            before = len(stream.result.tokens)
        print(piece, end="", flush=True)
        if stopped():
            break
    print(flush=True)
    later = len(stream.result.tokens) - before if stream.result.text else 0
    if sys.stderr.isatty() and later:
        rate = later / (time.perf_counter() - first)
        prompt = f"{prompt_tokens} tokens of prompt in {first - start:.2f} s"
        print(f"[{prompt}, then {later} tokens, {rate:.1f} a second]", file=sys.stderr)
