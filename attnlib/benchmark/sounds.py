"""Speech and a model that hears, both from what is on the machine."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnlib.benchmark.texts import models_folder
from attnlib.models.audio import read_audio

__all__ = ["bits", "speech", "speech_model_folder"]

_MODEL = "whisper-tiny.en-ctranslate2"
_SAMPLES = 30 * 16000

# Some 55 seconds of it, at the voice's usual pace.
_TEXT = """The library was built in eighteen ninety two. It has more than forty thousand books. Many students
come here in the evening to read and to write letters. My grandfather worked on a farm near the
river. He had three horses, two dogs, and a very old tractor. In the summer we swam in the lake, and
in the winter we walked across the ice. The train to London leaves at seven in the morning. Please
do not forget your passport, your money and your warm coat. When you arrive at the station, ask for
the man with the yellow umbrella. Scientists have found a new kind of fish in the deep sea. It has
no eyes and lives without any light. They hope to learn how it finds its food. The price of bread
went up again this week, and people are not happy about it."""


def speech_model_folder() -> Path:
    """Find Whisper tiny in CTranslate2's layout, where the tests marked ``real_model`` put it.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    folder = models_folder() / _MODEL
    if not (folder / "model.bin").is_file():
        raise FileNotFoundError(f"no {_MODEL} in {folder.parent}: pytest -m real_model fetches it")
    return folder


def speech() -> NDArray[np.float32]:
    """Have espeak-ng read a text, and return the first 30 seconds, (480000,).

    Raises
    ------
    FileNotFoundError
        If it is not installed.
    """
    with tempfile.TemporaryDirectory(prefix="attnlib-bench-") as folder:
        path = Path(folder) / "speech.wav"
        command = ["espeak-ng", "-v", "en", "-s", "150", "-w", str(path), " ".join(_TEXT.split())]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        except FileNotFoundError:
            raise FileNotFoundError("espeak-ng, which makes the speech, is not installed") from None
        return read_audio(path)[:_SAMPLES]


def bits(tokens: Sequence[int]) -> NDArray[np.float32]:
    """Return tokens as zeros and ones, (32 N,): so any that differ differ by much more than rounding does."""
    return np.unpackbits(np.array(tokens, "<i4").view(np.uint8)).astype(np.float32)
