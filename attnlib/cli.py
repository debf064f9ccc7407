"""The command ``attnlib``: embed, generate, show the configuration, run the demonstration and benchmark."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import attnlib
from attnlib.commands import generate as generate_command

if TYPE_CHECKING:
    from attnlib.models import SentenceEncoder

__all__ = ["main"]

_INTERRUPTED = 130  # 128 + SIGINT, as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments
        Default: those of the process.

    Returns
    -------
    int
        The exit code: 0, or 2 for what the user can mend, which is then told on standard error; 1 if `bench`
        finds a wrong result.
    """
    options = _parser().parse_args(arguments)
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
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    # The formatter keeps the examples on their line, for copying.
    add = partial(commands.add_parser, formatter_class=argparse.RawDescriptionHelpFormatter)

    embed = add(
        "embed",
        help="turn each line of a text file into a vector",
        description="Turn each line of a UTF-8 text file into a vector. The output has one row a line.",
        epilog="example: attnlib embed --model all-MiniLM-L6-v2 --output vectors.npy sentences.txt",
    )
    embed.add_argument(
        "file", nargs="?", default="-", metavar="FILE", help="the texts (default: -, standard input)"
    )
    embed.add_argument(
        "--model", required=True, metavar="DIR", help="a Hugging Face folder of the BERT family"
    )
    embed.add_argument(
        "--output",
        metavar="FILE",
        help="FILE.npy, one float32 array, or FILE.jsonl, one JSON object with text and embedding a line; "
        "written whole or not at all (default: JSON lines on standard output)",
    )
    embed.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "float64", "bfloat16"),
        help="what to compute in (default: float32); the output is float32",
    )
    embed.add_argument(
        "--batch-tokens",
        type=_positive,
        default=2048,
        metavar="N",
        help="tokens to run at a time (default: 2048)",
    )
    embed.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        help="scale vectors to length 1, or not (default: as the model says)",
    )
    embed.set_defaults(run=_embed)

    generate = add(
        "generate",
        help="continue a text with a language model",
        description="Continue a text with a language model of the Llama family or GPT-2. The continuation is "
        "written as it comes.",
        epilog='example: attnlib generate --model SmolLM2-135M-Instruct.Q4_1.gguf --chat "Why?"',
    )
    generate_command.add_arguments(generate)
    generate.set_defaults(run=generate_command.run)

    info = add(
        "info",
        help="show versions, instruction sets and threads",
        description="Show versions, the instruction sets built and usable, and threads.",
        epilog="example: ATTNLIB_ISA=avx2 attnlib info",
    )
    info.set_defaults(run=lambda options: attnlib.show_config())

    demo = add(
        "demo",
        help="run the operations beside plain NumPy",
        description="Run the operations and an encoder layer on arrays made up here, beside plain NumPy, and "
        "show errors, times and the speed-up. Nothing is downloaded.",
        epilog="example: attnlib demo --threads 1",
    )
    demo.set_defaults(run=_demo)

    bench = add(
        "bench",
        help="time attnlib beside NumPy and its peers",
        description="Time attnlib beside NumPy (with --peers also beside PyTorch, ONNX Runtime, OpenVINO, "
        "CTranslate2 and simd-ml-kernels, where they are installed) on the same arrays, with the machine's "
        "ceilings measured in the same run, and write results.json, results.md and plots. All of it takes "
        "about half an hour.",
        epilog="example: attnlib bench --peers --workloads softmax gelu --output bench-results",
    )
    bench.add_argument("--peers", action="store_true", help="beside all peers that are installed")
    bench.add_argument(
        "--output",
        default="bench-results",
        metavar="DIR",
        help="the folder to write into (default: bench-results)",
    )
    bench.add_argument(
        "--workloads",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="only those whose names contain one of these",
    )
    bench.add_argument(
        "--model",
        metavar="DIR",
        help="folder of the sentence encoder (default: all-MiniLM-L6-v2 in the cache of the tests)",
    )
    bench.add_argument(
        "--quick", action="store_true", help="to see that it works: short, and not to be believed"
    )
    bench.add_argument("--list", action="store_true", help="list the names of all workloads and stop")
    bench.add_argument(
        "--threads", type=_positive, default=1, metavar="N", help="threads of every engine (default: 1)"
    )
    bench.set_defaults(run=_bench)
    for command in (embed, demo, generate):
        command.add_argument(
            "--threads", type=_positive, metavar="N", help="threads to use (default: all there are)"
        )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _demo(options: argparse.Namespace) -> None:
    from attnlib import demo

    if options.threads is not None:
        attnlib.set_num_threads(options.threads)
    demo.run()


def _bench(options: argparse.Namespace) -> int:
    # These take time to import.
    from attnlib.benchmark.options import Options
    from attnlib.benchmark.process import run_in_child
    from attnlib.benchmark.workloads import EVERYTHING, chosen

    if options.list:
        print("\n".join(workload.name for workload in EVERYTHING))
        return 0
    words = tuple(options.workloads)
    if not chosen(words):
        raise ValueError(f"no workload is called {' or '.join(words)}: attnlib bench --list names all")
    for folder in (options.output, options.model):
        if folder is not None and Path(folder).exists() and not Path(folder).is_dir():
            raise ValueError(f"{folder} is not a folder")
    return run_in_child(
        Options(
            threads=options.threads,
            peers=options.peers,
            workloads=words,
            output=options.output,
            model=options.model,
            quick=options.quick,
        )
    )


def _embed(options: argparse.Namespace) -> None:
    # Here, since most commands do not need what these import.
    from attnlib import models

    write = _writer(options.output)
    if options.threads is not None:
        attnlib.set_num_threads(options.threads)
    with _lines(options.file) as (texts, total):
        encoder = models.load_sentence_encoder(options.model, dtype=options.dtype)
        pending: deque[str] = deque()
        chunks = encoder.encode_iter(
            _remembered(texts, pending),
            batch_tokens=options.batch_tokens,
            normalize=options.normalize,
            # A bar between lines of output on the same terminal would help nobody.
            show_progress=sys.stderr.isatty() and (options.output is not None or not sys.stdout.isatty()),
            total=total,
        )
        write(encoder, chunks, pending)


@contextmanager
def _lines(name: str) -> Iterator[tuple[Iterator[str], int | None]]:
    """Open a file of texts: the lines, and how many there are if that can be known beforehand."""
    if name == "-":
        yield _decoded(sys.stdin.buffer, "standard input"), None
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
        yield _decoded(file, name), total


def _decoded(file: IO[bytes], name: str) -> Iterator[str]:
    for number, line in enumerate(file, 1):
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError as error:
            raise ValueError(f"{name}: line {number} is not valid UTF-8: {error}") from None


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
        with _whole_or_nothing(path, "w+b") as file:
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
        with _whole_or_nothing(path, "w") as file:
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


@contextmanager
def _whole_or_nothing(path: Path, mode: str) -> Iterator[IO[Any]]:
    """Open a temporary file beside `path` that takes its name only if all goes well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open(mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
