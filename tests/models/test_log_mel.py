"""The log-mel front end against a discrete Fourier transform in float64."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from attnlib.models.audio import LogMel, resample
from attnlib.models.audio.log_mel import mel_filters

from .log_mel_oracle import features, filters

EPS = float(np.finfo(np.float32).eps)


@pytest.mark.parametrize("bands", [80, 128])
def test_filters(bands: int) -> None:
    exact = filters(bands)
    assert np.abs(mel_filters(bands, 400, 16000) - exact).max() <= 1e-12


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize(
    ("size", "frames"),
    [
        (16000, None),
        (4001, None),
        (4159, 40),
        (1, 5),
        (199, 3),
        (3000, 20),
        (3150, 20),
        (3200, 20),
        (5000, 20),
    ],
)
def test_against_float64(bands: int, size: int, frames: int | None) -> None:
    rng = np.random.default_rng(size)
    loudness = 10 ** np.linspace(-4, 0, size)
    sound = (loudness * (np.sin(0.3 * np.arange(size)) + rng.standard_normal(size)) * 0.3).astype(np.float32)
    exact, bound = features(sound.astype(np.float64), bands, frames)
    found = LogMel(bands)(sound, frames)
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    assert (np.abs(found - exact) <= bound).all()


def test_silence_and_nothing() -> None:
    assert np.abs(LogMel(80)(np.zeros(1600, np.float32)) + 1.5).max() <= 4 * EPS
    assert LogMel(80)(np.zeros(159, np.float32)).shape == (80, 0)
    assert LogMel(80)(np.zeros(0, np.float32), 4).shape == (80, 4)
    assert LogMel(80)(np.ones(9, np.float32), 0).shape == (80, 0)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([0.0] * 800, TypeError, "samples must be an array of float32, got list"),
        (np.zeros(800, np.int16), TypeError, "samples must be float32, got int16"),
        (np.zeros((2, 400), np.float32), ValueError, "samples must have one axis, mono, got shape (2, 400)"),
        (
            np.ma.masked_array(np.zeros(800, np.float32)),
            TypeError,
            "samples is a masked array, whose mask would be lost; pass array.filled(value)",
        ),
        (np.float32(0.5), TypeError, "samples must be an array of float32, got float32"),
    ],
)
def test_samples_that_are_none(samples: Any, error: type[Exception], message: str) -> None:
    """Refused alike by all that takes sound."""
    with pytest.raises(error, match=f"^LogMel: {re.escape(message)}$"):
        LogMel(80)(samples, 4)
    for rate in (8000, 16000):
        with pytest.raises(error, match=f"^resample: {re.escape(message)}$"):
            resample(samples, rate, 16000)


@pytest.mark.parametrize("name", ["bands", "rate", "window", "hop", "frames"])
def test_sizes_that_are_none(name: str) -> None:
    def call(value: Any) -> None:
        sizes = {"bands": 8, name: value}
        frames = sizes.pop("frames", None)
        LogMel(**sizes)(np.zeros(800, np.float32), frames)

    with pytest.raises(ValueError, match=f"^LogMel: {name} must be at least [01], got -1$"):
        call(-1)
    with pytest.raises(TypeError, match=f"^LogMel: {name} must be an integer, got float$"):
        call(2.0)
    if name != "frames":
        with pytest.raises(ValueError, match=f"^LogMel: {name} must be at least 1, got 0$"):
            call(0)
