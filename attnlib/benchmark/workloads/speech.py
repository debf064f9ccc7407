"""Whisper tiny on speech: its encoder, and from sound to the last token."""

from __future__ import annotations

import numpy as np

from attnlib.benchmark.sounds import speech, speech_model_folder
from attnlib.benchmark.workload import Inputs, Target, Workload
from attnlib.models.audio import LogMel

__all__ = ["SPEECH"]

_FRAMES, _PLACES, _BANDS, _SIZE, _INNER, _LAYERS = 3000, 1500, 80, 384, 1536, 4


def _encoder_flops() -> float:
    convolutions = 2 * 3 * _SIZE * (_FRAMES * _BANDS + _PLACES * _SIZE)
    products = 2 * _PLACES * (4 * _SIZE**2 + 2 * _SIZE * _INNER)
    scores = 4 * _PLACES**2 * _SIZE
    return float(convolutions + _LAYERS * (products + scores))


def _features(_: np.random.Generator) -> Inputs:
    return speech_model_folder(), np.ascontiguousarray(LogMel(_BANDS)(speech(), _FRAMES)[None])


def _sound(_: np.random.Generator) -> Inputs:
    return speech_model_folder(), speech()


SPEECH = [
    Workload(
        case="Whisper tiny encoder 30 s",
        precision="float32",
        family="speech",
        operation="speech_encoder",
        make=_features,
        ceiling="float32",
        amount=_encoder_flops(),
        targets=(Target("ratio", 1.4, "CTranslate2", "float32"),),
    ),
    Workload(
        case="Whisper tiny transcribes 30 s",
        precision="float32",
        family="speech",
        operation="transcription",
        make=_sound,
        targets=(Target("ratio", 1.3, "CTranslate2", "float32"),),
    ),
]
