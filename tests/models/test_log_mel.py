"""The log-mel front end against a discrete Fourier transform in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attnlib.models.audio import LogMel
from attnlib.models.audio.log_mel import mel_filters

EPS = float(np.finfo(np.float32).eps)
Float = np.ndarray[Any, np.dtype[np.float64]]


def _oracle(samples: Float, bands: int, frames: int | None) -> tuple[Float, Float]:
    """Return the features (M, T) and how far float32 may be from them."""
    length = samples.size if frames is None else frames * 160
    sound = np.zeros(length)
    sound[: min(length, samples.size)] = samples[:length]
    sound = np.pad(sound, 200, mode="reflect")
    count = length // 160
    places = np.arange(400)
    window = np.square(np.sin(np.pi * places / 400))
    turns = np.exp(-2j * np.pi / 400 * places[:, None] * np.arange(201))
    power = np.stack([np.square(np.abs((sound[t * 160 :][:400] * window) @ turns)) for t in range(count)])
    energy = power @ _filters(bands).T
    floor = 1e-10
    logs = np.log10(np.maximum(energy, floor))
    result = (np.maximum(logs, logs.max() - 8) + 4) / 4
    # A sum of positive terms errs by a part of itself; the filters and powers were rounded too; the logarithm
    # turns a part into a sum, log10(1 + d) < d / ln 10, and errs by a few units of its own size.
    part = (8 * np.sqrt(201) + 4) * EPS
    bound = (part / np.log(10) + 4 * EPS * np.abs(logs)) / 4 + 4 * EPS * (np.abs(result) + 1)
    return result.T, bound.T


def _filters(bands: int) -> Float:
    """Compute triangles on Slaney's scale, one corner at a time."""

    def hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else float(1000 * 6.4 ** ((mel - 15) / 27))

    top = 15 + 27 * np.log(8) / np.log(6.4)
    corners = [hertz(top * i / (bands + 1)) for i in range(bands + 2)]
    result = np.zeros((bands, 201))
    for band, (left, peak, right) in enumerate(zip(corners, corners[1:], corners[2:], strict=False)):
        for k in range(201):
            frequency = 40.0 * k
            if left < frequency <= peak:
                result[band, k] = (frequency - left) / (peak - left)
            elif peak < frequency < right:
                result[band, k] = (right - frequency) / (right - peak)
        result[band] *= 2 / (right - left)
    return result


@pytest.mark.parametrize("bands", [80, 128])
def test_filters(bands: int) -> None:
    exact = _filters(bands)
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
    exact, bound = _oracle(sound.astype(np.float64), bands, frames)
    found = LogMel(bands)(sound, frames)
    assert found.dtype == np.float32
    assert found.shape == exact.shape
    assert (np.abs(found - exact) <= bound).all()


def test_silence_and_nothing() -> None:
    assert np.abs(LogMel(80)(np.zeros(1600, np.float32)) + 1.5).max() <= 4 * EPS
    assert LogMel(80)(np.zeros(159, np.float32)).shape == (80, 0)
    assert LogMel(80)(np.zeros(0, np.float32), 4).shape == (80, 4)
    assert LogMel(80)(np.ones(9, np.float32), 0).shape == (80, 0)
