"""Valid random sounds for what models hear with, and the right results."""

from __future__ import annotations

from typing import Any

import numpy as np
from models.log_mel_oracle import features
from models.test_resample import formula

from attnlib.models import audio

from .calls import MOST_COPIED, Call, Draw

__all__ = ["AUDIO"]

Arguments = dict[str, Any]

# Filters between some two of them have hundreds of phases; of others, a hundred thousand.
_RATES = (1000, 8000, 11025, 16000, 22050, 32000, 44100, 48000, 96000, 15997)
_MOST_TERMS = 1 << 19


def resample(draw: Draw) -> Call:
    """Any two rates."""
    samples = draw.array(draw.size() * draw.pick((1, 1, 5)), dtype=np.float32)
    arguments: Arguments = {"samples": samples, "rate": draw.pick(_RATES), "new_rate": draw.pick(_RATES)}

    def function(samples: Any, rate: Any, new_rate: Any) -> Any:
        result = audio.resample(samples, rate, new_rate)
        # The same samples, if the rates are equal: no number that a test could copy, now and then.
        return result if result.size <= MOST_COPIED else np.zeros(0)

    def exact(a: Arguments) -> Any:
        sound = a["samples"]
        if a["rate"] == a["new_rate"]:
            return [(sound, 0.0)]
        return [formula(sound, a["rate"], a["new_rate"])]

    ratio = arguments["new_rate"] / arguments["rate"]
    # The formula wants a matrix of results by samples and those of the silence around them.
    terms = samples.size * ratio * (samples.size + 150 * max(1.0, 1 / ratio))
    return Call("resample", function, arguments, exact if terms < _MOST_TERMS else None)


def log_mel(draw: Draw) -> Call:
    """Whisper's own front end, with frames that cut the sound or fill it up."""
    bands = draw.pick((1, 7, 80, 128))
    frames = draw.pick((None, 0, 1, 2, 5, 20))
    size = int(draw.rng.integers(4000)) if draw.chance(0.7) else draw.size()
    samples = draw.array(size, dtype=np.float32, scale=0.3)
    front_end = audio.LogMel(bands)

    def function(samples: Any) -> Any:
        return front_end(samples, frames)

    def exact(a: Arguments) -> Any:
        # Of one frame, mirroring at one end reaches beyond the other.
        return [features(a["samples"].astype(np.float64), bands, frames)]

    long = size >= 320 if frames is None else frames > 1
    # `frames` is never spoilt: as many as a number says would be made.
    return Call("LogMel", function, {"samples": samples}, exact if long else None)


def other_log_mel(draw: Draw) -> Call:
    """Windows, hops and rates that no model has."""
    sizes = {
        "bands": 1 + draw.size(33),
        "rate": draw.pick(_RATES[1:]),
        "window": 1 + draw.size(),
        "hop": 1 + draw.size(),
    }
    samples = draw.array(draw.size() * 5, dtype=np.float32)

    def function(samples: Any) -> Any:
        found = audio.LogMel(**sizes)(samples)
        if found.shape != (sizes["bands"], samples.size // sizes["hop"]) or found.dtype != np.float32:
            raise AssertionError(f"features of {sizes} are {found.dtype} {found.shape}")
        return found

    # Nor are the sizes, for the same reason.
    return Call("LogMel", function, {"samples": samples})


def check_audio(draw: Draw) -> Call:
    """What a caller may hand over for a sound."""
    samples = draw.array(1 + draw.size(), dtype=draw.pick((np.float16, np.float32, np.float64)))
    if draw.chance(0.3):
        samples = draw.rng.integers(-(1 << 15), 1 << 15, samples.size, dtype=np.int16)

    def function(samples: Any) -> Any:
        if isinstance(samples, np.ndarray) and samples.size > MOST_COPIED:
            raise ValueError("transcribe: few sounds are so long")
        return audio.check_audio("transcribe", samples)

    def exact(a: Arguments) -> Any:
        sound = a["samples"].astype(np.float64)
        return [(sound / 32768 if a["samples"].dtype == np.int16 else sound.astype(np.float32), 0.0)]

    return Call("transcribe", function, {"samples": samples}, exact)


AUDIO = (resample, log_mel, other_log_mel, check_audio)
