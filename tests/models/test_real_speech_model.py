"""Whisper tiny on speech that espeak-ng makes, against CTranslate2 on the same features."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib as al
from attnlib import models
from attnlib.models.audio import read_audio
from attnlib.models.audio.speech_tokens import TranscriptRules
from attnlib.models.generation.decoding import Step, decode
from attnlib.models.generation.sampling import Sampling

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed"),
]

SENTENCES = [
    "The library was built in eighteen ninety two.",
    "Many students come here in the evening to read and to write letters.",
    "My grandfather worked on a farm near the river.",
    "In the summer we swam in the lake, and in the winter we walked across the ice.",
    "The train to London leaves at seven in the morning.",
    "Please do not forget your passport, your money and your warm coat.",
    "Scientists have found a new kind of fish in the deep sea.",
    "The price of bread went up again this week.",
    "When you arrive at the station, ask for the man with the yellow umbrella.",
    "A new election will be held in the spring.",
]


@pytest.fixture(scope="module")
def model(whisper_tiny: Path) -> models.SpeechModel:
    model = models.load(whisper_tiny)
    assert isinstance(model, models.SpeechModel)
    return model


@pytest.fixture(scope="module")
def peer(whisper_tiny: Path) -> Any:
    ctranslate2 = pytest.importorskip("ctranslate2")
    return ctranslate2.models.Whisper(str(whisper_tiny), device="cpu", compute_type="float32")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("speech")
    return [_say(sentence, folder / f"{number}.wav") for number, sentence in enumerate(SENTENCES)]


def _say(text: str, path: Path) -> Path:
    subprocess.run(["espeak-ng", "-v", "en", "-s", "150", "-w", str(path), text], check=True, timeout=60)
    return path


def _words(text: str) -> set[str]:
    return set("".join(letter if letter.isalpha() else " " for letter in text.lower()).split())


def test_sentences_are_understood(model: models.SpeechModel, files: list[Path]) -> None:
    shares = []
    for path, sentence in zip(files, SENTENCES, strict=True):
        result = model.transcribe(path)
        wanted = _words(sentence)
        shares.append(len(wanted & _words(result.text)) / len(wanted))
        assert result.language == "en"
        assert result.segments[0].end <= result.duration
    # Numbers come as figures, and the voice is a machine's.
    assert sum(shares) / len(shares) > 0.8
    assert min(shares) >= 0.5


@pytest.mark.parametrize("beams", [1, 5])
@pytest.mark.parametrize("timestamps", [False, True])
def test_tokens_are_those_of_ctranslate2(
    timestamps: bool, beams: int, model: models.SpeechModel, peer: Any, files: list[Path]
) -> None:
    import ctranslate2

    for path in files if beams == 1 else files[::4]:
        features = model.features(read_audio(path))[None]
        view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features))
        start = model.tokens.prompt("en", "transcribe", timestamps)
        wanted = peer.generate(view, [start], beam_size=beams)[0].sequences_ids[0]
        result = model.transcribe(path, timestamps=timestamps, temperature=0, num_beams=beams)
        assert [token for segment in result.segments for token in segment.tokens] == [*wanted]


def test_the_encoder_and_the_chance_of_silence(
    model: models.SpeechModel, peer: Any, files: list[Path]
) -> None:
    import ctranslate2

    features = np.stack([model.features(read_audio(path)) for path in files[:3]])
    view = ctranslate2.StorageView.from_array(np.ascontiguousarray(features))
    wanted = np.asarray(peer.encode(view, to_cpu=True))
    found = model.network.encode(features)
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)
    results = peer.generate(view, [[model.tokens.start]] * 3, beam_size=1, return_no_speech_prob=True)
    for path, result in zip(files, results, strict=False):
        (segment,) = model.transcribe(path, timestamps=True, temperature=0).segments
        assert abs(segment.no_speech - result.no_speech_prob) < 1e-4


def test_a_batch_of_windows(model: models.SpeechModel, files: list[Path]) -> None:
    """Rows of a batch get what they get alone, whatever the threads."""
    start = model.tokens.prompt("en", "transcribe", False)
    features = np.stack([model.features(read_audio(path)) for path in files[:4]])

    def written(inputs: Any, threads: int) -> list[list[int]]:
        rows: list[list[int]] = [[] for _ in inputs]

        def finished(step: Step) -> bool:
            rows[step.row].append(step.token)
            return step.token == model.tokens.end

        with al.num_threads(threads):
            past = model.network.begin(model.network.encode(inputs), capacity=100)
            for _ in decode(
                model.network,
                [start] * len(inputs),
                past=past,
                max_new_tokens=100,
                sampling=Sampling(),
                logits_callback=TranscriptRules(model.tokens, len(start), False),
                finished=finished,
            ):
                pass
        return rows

    together = written(features, 2)
    assert together == [written(features[i : i + 1], 1)[0] for i in range(4)]


def test_long_sound(model: models.SpeechModel, tmp_path: Path) -> None:
    """Over several windows every sentence is found at about its time."""
    silence = np.zeros(8000, np.float32)
    parts, places, total = [], [], 0
    for number, sentence in enumerate([*SENTENCES, *SENTENCES[:3]]):
        part = read_audio(_say(sentence, tmp_path / f"{number}.wav"))
        places.append(total / 16000)
        parts += [part, silence]
        total += part.size + silence.size
    result = model.transcribe(np.concatenate(parts))
    assert result.duration == total / 16000 > 40
    starts = [segment.start for segment in result.segments]
    assert starts == sorted(starts)
    assert all(segment.start < segment.end <= result.duration for segment in result.segments)
    wanted = _words(" ".join(SENTENCES))
    assert len(wanted & _words(result.text)) / len(wanted) > 0.8
    for place in places:
        assert min(abs(start - place) for start in starts) < 2.0


@pytest.mark.parametrize(("dtype", "worst"), [("bfloat16", 0.1), ("int8", 0.1)])
def test_other_dtypes(
    dtype: str, worst: float, whisper_tiny: Path, model: models.SpeechModel, files: list[Path]
) -> None:
    other = models.load(whisper_tiny, dtype=dtype)
    assert isinstance(other, models.SpeechModel)
    shared = []
    for path in files:
        wanted, found = _words(model.transcribe(path).text), _words(other.transcribe(path).text)
        shared.append(len(wanted & found) / len(wanted))
    assert sum(shared) / len(shared) >= 1 - worst


def test_silence_is_not_speech(model: models.SpeechModel) -> None:
    result = model.transcribe(np.zeros(32000, np.float32))
    assert result.duration == 2.0
    assert len(_words(result.text)) <= 2
