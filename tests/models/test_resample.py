"""Resampling against sines that are known everywhere, and against its formula in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tolerance import matmul_bound

from attnlib.models.audio import resample

Array = np.ndarray[Any, Any]

EPS = float(np.finfo(np.float32).eps)
RATES = [8000, 11025, 16000, 22050, 44100, 48000, 96000, 15997]


@pytest.mark.parametrize("rate", RATES)
def test_sines_that_both_rates_hold_pass(rate: int) -> None:
    lower = min(rate, 16000) / 2
    for part in (0.0, 0.1, 0.5, 0.8):
        turn = 2 * np.pi * part * lower
        sound = np.cos(turn / rate * np.arange(rate // 4)).astype(np.float32)
        found = resample(sound, rate, 16000)
        assert found.dtype == np.float32
        assert found.size == -(-sound.size * 16000 // rate)
        exact = np.cos(turn / 16000 * np.arange(found.size))
        # Silence before and after rings in for as long as the filter.
        edge = 600
        assert np.abs(found - exact)[edge:-edge].max() < 1e-4


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate > 16000])
def test_what_the_new_rate_cannot_hold_is_gone(rate: int) -> None:
    sound = np.cos(2 * np.pi * 8001 / rate * np.arange(rate // 4)).astype(np.float32)
    assert np.abs(resample(sound, rate, 16000))[600:-600].max() < 1e-4


def formula(sound: Array, rate: int, new_rate: int) -> tuple[Array, Array]:
    """Return the sum that `resample` is, in float64, and how far float32 may be from it."""
    lobe = max(1.0, rate / new_rate) / 0.91
    reach = math.ceil(32 * lobe)
    places = np.arange(-(-sound.size * new_rate // rate)) * rate / new_rate
    # Also of the silence around the sound, since the coefficients of each result sum up to 1.
    around = np.arange(-2 * reach, sound.size + 2 * reach)
    distance = around - places[:, None]
    window = np.i0(9.0 * np.sqrt(np.maximum(0.0, 1 - np.square(distance / reach))))
    taps = np.where(np.abs(distance) <= reach, np.sinc(distance / lobe) * window, 0.0)
    taps /= taps.sum(axis=1, keepdims=True)
    taps = taps[:, 2 * reach : 2 * reach + sound.size]
    return taps @ sound, matmul_bound(taps, sound[:, None], EPS)[:, 0]


@pytest.mark.parametrize(("rate", "new_rate"), [(3000, 2000), (2000, 3000), (4410, 1600)])
@pytest.mark.parametrize("size", [1, 2, 33, 400])
def test_the_formula(rate: int, new_rate: int, size: int) -> None:
    sound = np.random.default_rng(size).standard_normal(size).astype(np.float32)
    exact, bound = formula(sound, rate, new_rate)
    assert (np.abs(resample(sound, rate, new_rate) - exact) <= bound).all()


def test_nothing_to_do() -> None:
    sound = np.ones(5, np.float32)
    assert resample(sound, 16000, 16000) is sound
    assert resample(sound[:0], 8000, 16000).size == 0


@pytest.mark.parametrize("rate", [0, -1, 999, 1_000_001])
def test_rates_out_of_range(rate: int) -> None:
    with pytest.raises(ValueError, match=f"resample: rate .* got {rate}"):
        resample(np.ones(5, np.float32), rate, 16000)
    with pytest.raises(ValueError, match=f"resample: new_rate .* got {rate}"):
        resample(np.ones(5, np.float32), 16000, rate)
    with pytest.raises(TypeError, match="rate must be an integer, got float"):
        resample(np.ones(5, np.float32), rate + 0.5, 16000)  # type: ignore[arg-type]
