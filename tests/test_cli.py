"""The command line, in this process and in one of its own."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import folders, speech

import attnlib
from attnlib import cli, demo, models

TEXTS = "the cat sat\n\ndogs bark .\r\nunheard of\ncat"
LINES = ["the cat sat", "", "dogs bark .", "unheard of", "cat"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.make(tmp_path_factory.mktemp("cli") / "model").write()


@pytest.fixture(scope="module")
def vectors(model: Path) -> Any:
    return models.load(model).encode(LINES)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "texts.txt").write_bytes(TEXTS.encode())
    return tmp_path / "texts.txt"


def start(*arguments: object, **options: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-W", "error", "-m", "attnlib", *map(str, arguments)]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    # Away from the source tree, whose package is not the one to test; and with SIGINT as a terminal has it,
    # which a shell's background job ignores.
    return subprocess.Popen(
        command,
        cwd=tempfile.gettempdir(),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **{**pipes, **options},
    )


def run(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(stdin.encode(), timeout=120)
    return process.returncode, out.decode(), err.decode()


def parsed(lines: str) -> tuple[list[str], Any]:
    rows = [json.loads(line) for line in lines.splitlines()]
    return [row["text"] for row in rows], np.array([row["embedding"] for row in rows], np.float32)


def test_embed_from_standard_input_to_standard_output(model: Path, vectors: Any) -> None:
    code, out, err = run("embed", "--model", model, stdin=TEXTS)
    assert (code, err) == (0, "")
    found, numbers = parsed(out)
    assert found == LINES
    np.testing.assert_array_equal(numbers, vectors)


def test_embed_to_npy(model: Path, texts: Path, vectors: Any, tmp_path: Path) -> None:
    output = tmp_path / "vectors.npy"
    output.write_bytes(b"something older")
    assert cli.main(["embed", "--model", str(model), "--output", str(output), str(texts)]) == 0
    found = np.load(output)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["texts.txt", "vectors.npy"]


def test_embed_to_jsonl(model: Path, texts: Path, vectors: Any, tmp_path: Path) -> None:
    output = tmp_path / "vectors.jsonl"
    options = ["--batch-tokens", "5", "--threads", "1", "--no-normalize"]
    threads = attnlib.get_num_threads()
    assert cli.main(["embed", "--model", str(model), "--output", str(output), *options, str(texts)]) == 0
    attnlib.set_num_threads(threads)
    found, numbers = parsed(output.read_text())
    assert found == LINES
    np.testing.assert_array_equal(numbers, models.load(model).encode(LINES, normalize=False))


def test_embed_many_lines(model: Path, vectors: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = ("\n".join(LINES) + "\n") * 1000
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(many.encode())))
    output = tmp_path / "vectors.npy"
    assert cli.main(["embed", "--model", str(model), "--output", str(output)]) == 0
    np.testing.assert_array_equal(np.load(output, mmap_mode="r"), np.tile(vectors, (1000, 1)))


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_embed_of_nothing(suffix: str, model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").touch()
    output = tmp_path / f"vectors{suffix}"
    assert (
        cli.main(["embed", "--model", str(model), "--output", str(output), str(tmp_path / "empty.txt")]) == 0
    )
    if suffix == ".npy":
        assert np.load(output).shape == (0, 24)
    else:
        assert output.read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "stdin", "shown"),
    [
        (["embed", "--model", "MODEL", "--output", "OUTPUT", "TEXTS"], b"", b"5/5"),
        (["embed", "--model", "MODEL"], b"cat\n", b"1text"),
        (["transcribe", "--model", "WHISPER", "SOUND"], b"", b"1/1"),
        (["translate"], b"merci\n\nmerci\n", b"3text"),
    ],
)
def test_a_progress_bar_on_a_terminal(
    arguments: list[str], stdin: bytes, shown: bytes, model: Path, texts: Path, tmp_path: Path
) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    names = {"MODEL": model, "TEXTS": texts, "OUTPUT": tmp_path / "vectors.npy"}
    if "WHISPER" in arguments:
        names |= {"WHISPER": tmp_path / "whisper", "SOUND": tmp_path / "noise.wav"}
        speech.write_ctranslate2_folder(names["WHISPER"])
        speech.write_noise(names["SOUND"])
    process = start(*(names.get(argument, argument) for argument in arguments), stderr=theirs)
    os.close(theirs)
    assert process.stdin
    process.stdin.write(stdin)
    process.stdin.close()
    process.stdin = None
    found = b""
    while True:
        try:
            block = os.read(ours, 4096)
        except OSError:  # how Linux says that the other side has gone
            break
        if not block:
            break
        found += block
    os.close(ours)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert shown in found


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["embed", "--model", "none"], "none: there is no such folder"),
        (["embed", "--model", "MODEL", "none.txt"], "none.txt"),
        (["embed", "--model", "MODEL", "--output", "vectors.txt", "TEXTS"], "must end in .npy or .jsonl"),
        (["embed", "--model", "MODEL", "--output", "none/vectors.npy", "TEXTS"], "its folder does not exist"),
        (["embed", "--model", "MODEL", "--output", "folder.npy", "TEXTS"], "is a folder"),
        (["embed", "--model", "MODEL", "LATIN"], "line 2 is not valid UTF-8"),
        (["embed", "--model", "BROKEN", "TEXTS"], "config.json: hidden_size is missing"),
    ],
)
def test_errors_of_the_user(
    arguments: list[str],
    part: str,
    model: Path,
    texts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "latin.txt").write_bytes(b"fine\nna\xefve\n")
    broken = folders.make(tmp_path / "broken")
    del broken.config["hidden_size"]
    broken.write()
    names = {"MODEL": model, "TEXTS": texts, "LATIN": tmp_path / "latin.txt", "BROKEN": tmp_path / "broken"}
    monkeypatch.chdir(tmp_path)
    assert cli.main([str(names.get(argument, argument)) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("attnlib: error: ")
    assert part in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["fly"],
        ["embed"],
        ["embed", "--model", "m", "--threads", "0"],
        ["embed", "--model", "m", "--batch-tokens", "few"],
        ["embed", "--model", "m", "--dtype", "int7"],
    ],
)
def test_errors_of_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        cli.main(arguments)
    assert info.value.code == 2
    assert "usage: attnlib" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npy", ".jsonl"])
def test_an_error_on_the_way_leaves_nothing(suffix: str, model: Path, tmp_path: Path) -> None:
    output = tmp_path / f"vectors{suffix}"
    output.write_text("older")
    (tmp_path / "texts.txt").write_bytes(b"cat\n" * 5000 + b"\xff\n")
    arguments = ["embed", "--model", str(model), "--output", str(output), str(tmp_path / "texts.txt")]
    assert cli.main(arguments) == 2
    assert output.read_text() == "older"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["texts.txt", output.name]


def test_interrupting_leaves_nothing(model: Path, tmp_path: Path) -> None:
    process = start("embed", "--model", model, "--output", tmp_path / "vectors.npy")
    assert process.stdin
    # Standard input stays open: the command has begun to write and waits for more.
    process.stdin.write(b"cat\n" * 5000)
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"attnlib: interrupted\n"
    assert not any(tmp_path.iterdir())


def test_a_reader_that_goes_away(model: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes(b"cat\n" * 20_000)
    process = start("embed", "--model", model, tmp_path / "texts.txt")
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(timeout=60) == 1
    process.stderr.close()
    assert process.stdin
    process.stdin.close()


# Not a shell's `>&-`: under ThreadSanitizer a shell ends of the library that is loaded into it.
CLOSE_AND_EXECUTE = """
import os, sys
for stream in sys.argv[1].split():
    os.close(int(stream))
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""


def run_closed(streams: str, *arguments: object) -> tuple[int, bytes, bytes]:
    """Run a command, some of whose streams, 0 to 2, are closed."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSE_AND_EXECUTE, streams, "-W", "error", "-m", "attnlib"]
        + [str(argument) for argument in arguments],
        cwd=tempfile.gettempdir(),
        capture_output=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_closed_streams(model: Path, texts: Path, vectors: Any, tmp_path: Path) -> None:
    nothing_read = b"attnlib: error: standard input is closed\n"
    nothing_written = b"attnlib: error: standard output is closed\n"
    assert run_closed("1", "info") == (2, b"", nothing_written)
    assert run_closed("1 2", "info") == (2, b"", b"")
    assert run_closed("0", "embed", "--model", model) == (2, b"", nothing_read)
    assert run_closed("0", "translate") == (2, b"", nothing_read)
    assert run_closed("0", "show", "--model", model, "-") == (2, b"", nothing_read)
    # Who needs no stream does not miss it.
    assert run_closed("0 2", "translate", "merci") == (0, b"thank you\n", b"")
    output = tmp_path / "vectors.npy"
    assert run_closed("0 1 2", "embed", "--model", model, "--output", output, texts) == (0, b"", b"")
    np.testing.assert_array_equal(np.load(output), vectors)


def test_an_error_that_nobody_hears() -> None:
    assert run_closed("2", "translate", "quark") == (2, b"", b"")


def test_info() -> None:
    code, out, err = run("info")
    assert (code, err) == (0, "")
    assert attnlib.__version__ in out
    assert attnlib.isa() in out


def test_info_as_json() -> None:
    code, out, err = run("info", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == attnlib.show_config(mode="dicts")


def test_an_unknown_mode_of_show_config() -> None:
    with pytest.raises(ValueError, match="mode must be 'stdout' or 'dicts', got 'xml'"):
        attnlib.show_config(mode="xml")  # type: ignore[call-overload]


@pytest.fixture
def quick_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is real; only the repetitions are left out."""
    for name, value in (("_BLOCK", 0.0), ("_BLOCKS", 1), ("_REST", 0.0)):
        monkeypatch.setattr(demo, name, value)


@pytest.mark.usefixtures("quick_demo")
def test_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo"]) == 0
    out = capsys.readouterr().out
    assert attnlib.isa() in out.splitlines()[0]
    for case in demo.cases(np.random.default_rng(0)):
        (line,) = (line for line in out.splitlines() if line.startswith(case.name + " "))
        error = float(line.split()[-4])
        assert error < 5e-6, line
    assert "je suis étudiant: i am a student (" in out


@pytest.mark.usefixtures("quick_demo")
def test_demo_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["demo", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"]["isa"] == attnlib.isa()
    assert [row["operation"] for row in found["results"]] == [
        case.name for case in demo.cases(np.random.default_rng(0))
    ]
    assert found["translations"][0]["english"] == "i am a student"
    for row in found["results"]:
        assert row["attnlib_error"] < 5e-6, row
        assert row["attnlib_seconds"] > 0 < row["numpy_seconds"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"attnlib {attnlib.__version__}\n"
