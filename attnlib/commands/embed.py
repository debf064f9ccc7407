"""The command ``attnlib embed``: each line of a file becomes a vector."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnlib.commands.arguments import add_threads, positive, use_threads
from attnlib.commands.files import decoded_lines, input_lines
from attnlib.commands.terminal import shows_progress
from attnlib.whole_file import whole_or_nothing

if TYPE_CHECKING:
    from attnlib.models import SentenceEncoder

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="the texts (default: -, standard input)"
    )
    parser.add_argument(
        "--model", required=True, metavar="DIR", help="a Hugging Face folder of the BERT family"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="FILE.npy, one float32 array, or FILE.jsonl, one JSON object with text and embedding a line; "
        "written whole or not at all (default: JSON lines on standard output)",
    )
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float64", "bfloat16"),
        help="what to compute in (default: float32); the output is float32",
    )
    parser.add_argument(
        "--batch-tokens",
        type=positive,
        default=2048,
        metavar="N",
        help="tokens to run at a time (default: 2048)",
    )
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1, or not (default: as the model says)",
    )
    add_threads(parser)


def run(options: argparse.Namespace) -> None:
    """Run the command."""
    # Here, since most commands do not need what these import.
    from attnlib import models

    write = _writer(options.output)
    use_threads(options)
    with _lines(options.file) as (texts, total):
        encoder = models.load_sentence_encoder(options.model, dtype=options.dtype)
        pending: deque[str] = deque()
        chunks = encoder.encode_iter(
            _remembered(texts, pending),
            batch_tokens=options.batch_tokens,
            normalize=options.normalize,
            show_progress=shows_progress(to_file=options.output is not None),
            total=total,
        )
        write(encoder, chunks, pending)


@contextmanager
def _lines(name: str) -> Iterator[tuple[Iterator[str], int | None]]:
    """Open a file of texts: the lines, and how many there are if that can be known beforehand."""
    if name == "-":
        yield input_lines(), None
        return
    with Path(name).open("rb") as file:
        total = None
        if file.seekable():
            last = b"\n"
            total = 0
            while block := file.read(1 << 20):
                total += block.count(b"\n")
                last = block
            total += not last.endswith(b"\n")
            file.seek(0)
        yield decoded_lines(file, name), total


def _remembered(texts: Iterable[str], pending: deque[str]) -> Iterator[str]:
    """Pass texts on and keep them until their vectors are written."""
    for text in texts:
        pending.append(text)
        yield text


_Writer = Callable[["SentenceEncoder", Iterator[NDArray[np.float32]], "deque[str]"], None]


def _writer(output: str | None) -> _Writer:
    """Choose how to write by the name of the output; complain about it before any work is done."""
    if output is None:
        return lambda encoder, chunks, pending: _write_json(sys.stdout, chunks, pending)
    path = Path(output)
    if path.suffix not in (".npy", ".jsonl"):
        raise ValueError(f"--output must end in .npy or .jsonl, got {output}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            f"--output {output}: " + ("is a folder" if path.is_dir() else "its folder does not exist")
        )

    def write_array(
        encoder: SentenceEncoder, chunks: Iterator[NDArray[np.float32]], pending: deque[str]
    ) -> None:
        with whole_or_nothing(path, "w+b") as file:
            rows = 0
            _write_header(file, rows, encoder.dimension)
            for chunk in chunks:
                pending.clear()
                file.write(chunk.astype("<f4", copy=False).tobytes())
                rows += len(chunk)
            file.seek(0)
            _write_header(file, rows, encoder.dimension)

    def write_lines(
        encoder: SentenceEncoder, chunks: Iterator[NDArray[np.float32]], pending: deque[str]
    ) -> None:
        with whole_or_nothing(path, "w") as file:
            _write_json(file, chunks, pending)

    return write_array if path.suffix == ".npy" else write_lines


def _write_header(file: IO[bytes], rows: int, columns: int) -> None:
    # NumPy leaves room for the first axis to grow, so the header keeps its length.
    shape = (rows, columns)
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _write_json(file: IO[str], chunks: Iterator[NDArray[np.float32]], pending: deque[str]) -> None:
    for chunk in chunks:
        for vector in chunk:
            # Nine digits tell every float32 from its neighbours.
            numbers = [float(f"{number:.9g}") for number in vector.tolist()]
            line = json.dumps({"text": pending.popleft(), "embedding": numbers}, ensure_ascii=False)
            file.write(line + "\n")
        file.flush()
