"""Every command's help has an example, and the example runs, word for word."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from models import decoders, folders, speech

from attnlib import cli

COMMANDS = [command.name for command in cli._COMMANDS]

# Options that make an example short enough for a test.
SHORTER = {"bench": "--quick"}


def write_sentences(path: Path) -> None:
    path.write_text("the cat sat\ndogs bark .\n", encoding="utf-8")


# What the examples read: small stand-ins, random models most of them, under the names that the examples use.
FILES: dict[str, Callable[[Path], object]] = {
    "all-MiniLM-L6-v2": lambda path: folders.make(path).write(),
    "SmolLM2-135M-Instruct.Q4_1.gguf": decoders.write_gguf,
    "sentences.txt": write_sentences,
    "whisper-tiny": speech.write_folder,
    "speech.wav": speech.write_noise,
}

STDIN = {"chat": "Who are you?\n"}

# What the examples leave behind.
RESULTS = {
    "embed": ["vectors.npy"],
    "show": ["all-MiniLM-L6-v2-attention.html"],
    "bench": ["bench-results/results.json"],
}


def example(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the example of a command's help."""
    with pytest.raises(SystemExit) as info:
        cli.main([*arguments, "--help"])
    assert info.value.code == 0
    (found,) = re.findall(r"^example: (.+)$", capsys.readouterr().out, re.MULTILINE)
    assert isinstance(found, str)
    return found


def test_all_commands_are_here() -> None:
    found = Path(cli.__file__).with_name("commands").glob("*.py")
    assert {path.stem for path in found if "def run(" in path.read_text(encoding="utf-8")} == set(COMMANDS)


def test_the_example_of_the_whole(capsys: pytest.CaptureFixture[str]) -> None:
    assert example([], capsys).split()[:2] == ["attnlib", "demo"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_example_runs(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = example([command], capsys)
    assert f"attnlib {command} " in f"{line} "
    for word in shlex.split(line):
        if word in FILES:
            FILES[word](tmp_path / word)
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "attnlib"
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -W error -m attnlib "$@"\n')
    script.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", f"{line} {SHORTER.get(command, '')}"],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
        input=STDIN.get(command, ""),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for name in RESULTS.get(command, []):
        assert (tmp_path / name).is_file(), done.stdout
    assert done.stdout or command in RESULTS
