"""The command ``attnlib``: its list of commands, and what becomes of their errors."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import attnlib
from attnlib.commands.standard_streams import closed_streams_explained, write_utf8

__all__ = ["main"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


@dataclass(frozen=True)
class _Command:
    """One command: what its help says. What it takes and does is in ``attnlib/commands/NAME.py``."""

    name: str
    help: str
    description: str
    example: str


_COMMANDS = (
    _Command(
        "embed",
        help="turn each line of a text file into a vector",
        description="Turn each line of a UTF-8 text file into a vector. The output has one row a line.",
        example="attnlib embed --model all-MiniLM-L6-v2 --output vectors.npy sentences.txt",
    ),
    _Command(
        "generate",
        help="continue a text with a language model",
        description="Continue a text with a language model of the Llama family or GPT-2. The continuation is "
        "written as it comes.",
        example='attnlib generate --model SmolLM2-135M-Instruct.Q4_1.gguf --chat "Why?"',
    ),
    _Command(
        "chat",
        help="talk with a language model",
        description="Talk with a language model that has a chat template. Without a terminal, each line of "
        "standard input is a message. /reset begins anew, /exit ends, Ctrl-C stops an answer and keeps the "
        "conversation.",
        example='attnlib chat --model SmolLM2-135M-Instruct.Q4_1.gguf --system "Be brief."',
    ),
    _Command(
        "transcribe",
        help="write down what is said in sound files",
        description="Write down what is said in sound files, with a Whisper model. Sound longer than 30 "
        "seconds is heard in windows that follow one another.",
        example="attnlib transcribe --model whisper-tiny --timestamps speech.wav",
    ),
    _Command(
        "show",
        help="write a page that shows what a model attends to in a text",
        description="Run a model over a text and write an HTML page that shows what each head of each layer "
        "attends to. The page needs nothing but a browser.",
        example="attnlib show --model all-MiniLM-L6-v2 "
        '"The animal didn\'t cross the street because it was too tired"',
    ),
    _Command(
        "translate",
        help="translate French into English",
        description="Translate simple sentences from French into English with a small Transformer that comes "
        "with attnlib, or any text with a translation model of your own.",
        example='attnlib translate --show-attention "je suis étudiant"',
    ),
    _Command(
        "info",
        help="show versions, instruction sets and threads",
        description="Show versions, the instruction sets built and usable, and threads. The environment "
        "variable ATTNLIB_ISA chooses one.",
        example="ATTNLIB_ISA=baseline attnlib info",
    ),
    _Command(
        "demo",
        help="run the operations beside plain NumPy",
        description="Run the operations and an encoder layer on arrays made up here, beside plain NumPy, and "
        "show errors, times and the speed-up; then translate two sentences and draw the attention between "
        "their words. Nothing is downloaded.",
        example="attnlib demo --threads 1",
    ),
    _Command(
        "bench",
        help="time attnlib beside NumPy and its peers",
        description="Time attnlib beside NumPy (with --peers also beside PyTorch, ONNX Runtime, OpenVINO, "
        "CTranslate2 and simd-ml-kernels, where they are installed) on the same arrays, with the machine's "
        "ceilings measured in the same run, and write results.json, results.md and plots. All of it takes "
        "half an hour, beside loud neighbours an hour.",
        example="attnlib bench --peers --workloads softmax gelu --output bench-results",
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Default: those of the process.

    Returns
    -------
    int
        The exit code: 0; 1 if `bench` finds a wrong result, or whoever reads our output has gone; 2 for what
        the user can mend, which is told on standard error; 130 after an interrupt.

    Raises
    ------
    SystemExit
        From `argparse`: with 2 if the arguments are none that it knows, with 0 after ``--help`` and
        ``--version``.
    """
    options = _parser().parse_args(arguments)
    with closed_streams_explained():
        options.encoding = write_utf8()
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Run the command that was asked for and return the exit code.

    `options.encoding` is that of the terminal, for what is drawn there.
    """
    try:
        code: int | None = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has gone. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("attnlib: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (ImportError, OSError, ValueError) as error:
        print(f"attnlib: error: {error}", file=sys.stderr)
        return 2
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attnlib",
        description="Transformer inference for NumPy on CPUs.",
        epilog="example: attnlib demo",
    )
    parser.add_argument("--version", action="version", version=f"attnlib {attnlib.__version__}")
    subparsers = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        module = importlib.import_module(f"attnlib.commands.{command.name}")
        subparser = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.description,
            epilog=f"example: {command.example}",
            # Keeps the example on its line, for copying.
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser
