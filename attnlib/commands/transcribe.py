"""The command ``attnlib transcribe``: write down what is said in sound files."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from attnlib.commands.arguments import add_dtype, add_threads, positive, use_threads
from attnlib.commands.terminal import shows_progress

if TYPE_CHECKING:
    from attnlib.models import Transcription

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "file",
        nargs="+",
        help="a WAV file, or what the package soundfile reads if it is installed; with several, a line with "
        "its name stands before each text",
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="DIR",
        help="folder of a Whisper model, in the layout of Hugging Face or of CTranslate2 (faster-whisper)",
    )
    add_dtype(parser)
    parser.add_argument("--language", metavar="CODE", help="of what is said, such as en (default: found out)")
    parser.add_argument(
        "--task",
        choices=("transcribe", "translate"),
        default="transcribe",
        help="translate writes English (default: transcribe)",
    )
    parser.add_argument(
        "--num-beams",
        type=positive,
        default=1,
        metavar="N",
        help="beams of the search; 1 takes the likeliest token each time (default: 1)",
    )
    parser.add_argument("--prompt", metavar="TEXT", help="words and names that may occur")
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--timestamps", action="store_true", help="one line for each segment, with its seconds in front"
    )
    output.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a file and line, with segments, times and probabilities",
    )
    add_threads(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    # Here, since most commands do not need what these import.
    from attnlib import models

    use_threads(options)
    model = models.load(options.model, dtype=options.dtype)
    if not isinstance(model, models.SpeechModel):
        raise ValueError(f"{options.model}: this model does not hear; Whisper models do")
    for name in options.file:
        result = model.transcribe(
            name,
            language=options.language,
            task=options.task,
            timestamps=options.timestamps or options.json,
            num_beams=options.num_beams,
            prompt=options.prompt,
            show_progress=shows_progress(),
        )
        if options.json:
            print(json.dumps({"file": name, **dataclasses.asdict(result)}, ensure_ascii=False), flush=True)
            continue
        if len(options.file) > 1:
            print(f"{name}:")
        print(_lines(result) if options.timestamps else result.text.strip(), flush=True)


def _lines(result: Transcription) -> str:
    """Write one line a segment."""
    return "\n".join(
        f"[{segment.start:7.2f} -> {segment.end:7.2f}] {segment.text.strip()}" for segment in result.segments
    )
