"""What the benchmark's speech workloads are made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from attnlib.benchmark.agreement import relative_error
from attnlib.benchmark.sounds import bits, speech, speech_model_folder
from attnlib.benchmark.workloads.speech import SPEECH


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNLIB_TEST_MODELS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no whisper-tiny"):
        speech_model_folder()
    (tmp_path / "whisper-tiny.en-ctranslate2").mkdir()
    (tmp_path / "whisper-tiny.en-ctranslate2" / "model.bin").touch()
    assert speech_model_folder().parent == tmp_path
    monkeypatch.setenv("PATH", str(tmp_path))
    for workload in SPEECH:
        with pytest.raises(FileNotFoundError, match="espeak-ng"):
            workload.inputs()


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_thirty_seconds_of_speech() -> None:
    sound = speech()
    assert sound.shape == (480000,)
    # All of it is speech: no second is silent.
    assert np.abs(sound.reshape(30, 16000)).max(axis=1).min() > 0.05


def test_tokens_that_differ_do_so_visibly() -> None:
    tokens = [50363, 17, 50000]
    assert relative_error(bits(tokens), bits(tokens)) == 0
    assert relative_error(bits([50363, 16, 50000]), bits(tokens)) > 0.1
