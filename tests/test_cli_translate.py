"""The command ``attnlib translate``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from models import decoders

from attnlib import cli, models
from attnlib.commands.translate_drawing import draw_attention


def test_a_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["translate", "je suis étudiant"]) == 0
    assert capsys.readouterr().out == "i am a student\n"


def test_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["translate", "--list-words"]) == 0
    words = capsys.readouterr().out.splitlines()
    assert len(set(words)) == len(words) > 1000
    assert {"étudiant", "suis", "l'", "qu'", "-t-il", "?"} <= set(words)
    assert "<end>" not in words
    assert cli.main(["translate", "--list-words", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"words": words}


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_dtypes(dtype: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = []

    def load_translator(**options: Any) -> Any:
        loaded.append(options)
        return load(**options)

    load = models.load_translator
    monkeypatch.setattr(models, "load_translator", load_translator)
    assert cli.main(["translate", "--dtype", dtype, "je suis étudiant"]) == 0
    assert loaded == [{"dtype": dtype}]
    assert capsys.readouterr().out == "i am a student\n"


def read_from(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="ascii"))


def test_lines_of_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read_from("Je suis étudiant.\n\nil fait froid\r\n", monkeypatch)
    assert cli.main(["translate", "--threads", "1"]) == 0
    assert capsys.readouterr().out == "i am a student.\n\nit is cold\n"


def test_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read_from("Je suis étudiant.\nmerci\n", monkeypatch)
    assert cli.main(["translate", "--json", "-"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == [
        {"text": "Je suis étudiant.", "translation": "i am a student."},
        {"text": "merci", "translation": "thank you"},
    ]


def test_attention_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["translate", "--json", "--show-attention", "il mange une pomme rouge"]) == 0
    (found,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    alignment = models.load_translator().align("il mange une pomme rouge")
    assert found["translation"] == "he eats a red apple"
    assert (found["source"], found["target"]) == (alignment.source, alignment.target)
    assert found["weights"] == [pytest.approx(row) for row in alignment.mean.tolist()]


def test_attention_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["translate", "--show-attention", "il mange une pomme rouge"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["he eats a red apple", ""]
    assert lines[2].split() == ["il", "mange", "une", "pomme", "rouge", "<end>"]
    rows = {line.split()[0]: line for line in lines[3:]}
    assert list(rows) == ["he", "eats", "a", "red", "apple", "<end>"]
    # What the drawing is for: French puts the adjective after its noun.
    for english, french in (("red", "rouge"), ("apple", "pomme")):
        start = lines[2].index(french)
        darkest = max(
            range(len(rows[english])), key=lambda place, row=rows[english]: " ░▒▓█".find(row[place])
        )
        assert start <= darkest < start + len(french), "\n".join(lines)


def translated(folder: Path, encoding: str, *arguments: str, stdout: int = subprocess.PIPE) -> Any:
    """Run the command where Python takes standard output to be in this encoding; return what it wrote."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "attnlib", "translate", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def test_a_drawing_without_blocks(tmp_path: Path) -> None:
    text = translated(tmp_path, "ascii", "--show-attention", "je suis étudiant").decode("ascii")
    assert "?tudiant" in text
    assert "########" in text


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
def test_programs_read_utf8_in_every_locale(encoding: str, tmp_path: Path) -> None:
    (row,) = translated(tmp_path, encoding, "--json", "je suis étudiant").decode().splitlines()
    assert json.loads(row) == {"text": "je suis étudiant", "translation": "i am a student"}
    assert "étudiant" in translated(tmp_path, encoding, "--list-words").decode().splitlines()


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"?tudiant"), ("latin-1", b"\xe9tudiant")])
def test_a_terminal_keeps_its_encoding(encoding: str, shown: bytes, tmp_path: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    translated(tmp_path, encoding, "--json", "je suis étudiant", stdout=theirs)
    assert shown in os.read(ours, 4096)
    os.close(theirs)
    os.close(ours)


def test_drawing() -> None:
    weights = [[1, 0.5, 0.0], [0.26, 0.1, 0.75]]
    assert draw_attention(["a", "bc", "d"], ["one", "three"], weights).splitlines() == [
        "       a  bc  d",
        "one    █  ▒▒",
        "three  ░      ▓",
    ]
    assert draw_attention(["é"], ["x"], [[0.5]], encoding="ascii").splitlines() == ["   ?", "x  :"]
    assert draw_attention([], [], []) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["le quark"], "translate: the model does not know 'quark'"),
        ([""], "translate: a text is empty"),
        (["--model", "nowhere", "merci"], "nowhere: there is no such folder"),
        (["--model", "nowhere", "--show-attention", "merci"], "--show-attention does not go with --model"),
        (["--model", "nowhere", "--list-words"], "--list-words does not go with --model"),
        (["--show-attention", "merci. merci."], "align: one sentence at a time, got 2"),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["translate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_another_kind_of_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    decoders.write_gguf(tmp_path / "model.gguf")
    assert cli.main(["translate", "--model", str(tmp_path / "model.gguf"), "merci"]) == 2
    assert "this model does not turn texts into texts" in capsys.readouterr().err


def test_a_model_of_ones_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `load` makes of the folder translates, by its own `generate`."""

    def load(path: str, *, dtype: str) -> Any:
        assert (path, dtype) == ("a-folder", "int8")
        return models.TextToTextModel((own := models.load_translator()).network, own.words, own.settings)

    monkeypatch.setattr(models, "load", load)
    assert cli.main(["translate", "--model", "a-folder", "--dtype", "int8", "je suis étudiant"]) == 0
    assert capsys.readouterr().out == "i am a student\n"
