"""The command ``attnlib transcribe`` on a small random model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from models import decoders, speech

from attnlib import cli, models


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return speech.write_ctranslate2_folder(tmp_path_factory.mktemp("whisper"))


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    speech.write_noise(tmp_path / "noise.wav")
    return tmp_path / "noise.wav"


def test_json(model: Path, sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(model), "--json", "--language", "de", "--num-beams", "2"]
    assert cli.main(["transcribe", *arguments, str(sound), str(sound)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    found = json.loads(lines[0])
    speaker = models.load(model)
    assert isinstance(speaker, models.SpeechModel)
    wanted = speaker.transcribe(sound, language="de", timestamps=True, num_beams=2)
    assert found["file"] == str(sound)
    assert found["text"] == wanted.text
    assert found["duration"] == 1.0
    assert found["language"] == "de"
    assert [segment["tokens"] for segment in found["segments"]] == [
        segment.tokens for segment in wanted.segments
    ]


def test_text_and_times(model: Path, sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    speaker = models.load(model)
    assert isinstance(speaker, models.SpeechModel)
    wanted = speaker.transcribe(sound, task="translate", prompt="Ada")
    options = ["--model", str(model), "--task", "translate", "--prompt", "Ada", "--threads", "1"]
    assert cli.main(["transcribe", *options, str(sound)]) == 0
    assert capsys.readouterr().out == wanted.text.strip() + "\n"
    assert cli.main(["transcribe", *options, "--timestamps", str(sound)]) == 0
    out = capsys.readouterr().out
    for segment in wanted.segments:
        assert f"{segment.start:.2f} -> " in out
        assert segment.text.strip() in out


def test_errors_of_the_user(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty.wav"
    empty.write_bytes(speech.wav(b""))
    sound = tmp_path / "noise.wav"
    speech.write_noise(sound)
    writer = decoders.write_folder(tmp_path / "writer")
    for arguments, problem in (
        (["--model", str(model), str(tmp_path / "no.wav")], "no.wav: there is no such file"),
        (["--model", str(model), str(empty)], "empty.wav: audio holds no samples"),
        (["--model", str(tmp_path / "no"), str(sound)], "there is no such folder"),
        (["--model", str(writer), str(sound)], "this model does not hear"),
        (["--model", str(model), "--language", "xx", str(sound)], "language 'xx' is not known"),
    ):
        assert cli.main(["transcribe", *arguments]) == 2
        assert problem in capsys.readouterr().err
