"""From one sampling rate to another."""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from attnlib.checks import check_integer
from attnlib.functional import matmul
from attnlib.models.audio.samples import check_samples

__all__ = ["resample"]

# Lobes of the sinc on either side, and the Kaiser window's parameter: by Kaiser's formulas (J. F. Kaiser,
# "Nonrecursive digital filter design using the I0-sinh window function", 1974) side lobes below -90 dB, and a
# transition of 0.18 of the lower Nyquist frequency, which ends where that frequency is.
_LOBES = 32
_BETA = 9.0
_PASSED = 1 - 0.09

LOWEST_RATE, HIGHEST_RATE = 1000, 1_000_000


def resample(samples: NDArray[np.float32], rate: int, new_rate: int) -> NDArray[np.float32]:
    """Bring sound to another sampling rate, without what the lower of both cannot hold.

    ``y[n] = sum over i of x[i] * h(n / new_rate - i / rate)``, where h is a sinc whose frequency is a little
    below the lower Nyquist frequency, under a Kaiser window: band-limited interpolation (J. O. Smith,
    "Digital Audio Resampling", https://ccrma.stanford.edu/~jos/resample/). As ``n / new_rate`` takes only
    `new_rate` / gcd places between two samples, there are so many sets of coefficients, a polyphase filter.

    Parameters
    ----------
    samples : (N,) float32
    rate, new_rate
        Samples a second before and after, from 1,000 to 1,000,000.

    Returns
    -------
    (ceil(N * new_rate / rate),) float32 ndarray

    Raises
    ------
    TypeError, ValueError
        If `samples` is no such array, or a rate is no integer or outside its range.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib.models.audio import resample
    >>> resample(np.ones(48000, np.float32), 48000, 16000).shape
    (16000,)
    """
    check_samples("resample", samples)
    for name, value in (("rate", rate), ("new_rate", new_rate)):
        if not LOWEST_RATE <= check_integer("resample", name, value) <= HIGHEST_RATE:
            raise ValueError(
                f"resample: {name} must be from {LOWEST_RATE} to {HIGHEST_RATE} samples a second, got {value}"
            )
    if rate == new_rate or not samples.size:
        return samples
    common = math.gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    # In samples of the input: how far the filter reaches, and the width of a lobe.
    lobe = max(1.0, down / up) / _PASSED
    reach = math.ceil(_LOBES * lobe)
    count = -(-samples.size * up // down)
    padded = np.zeros(samples.size + 2 * reach + 1, np.float32)
    padded[reach : reach + samples.size] = samples
    result = np.empty(count, np.float32)
    for phase in range(min(up, count)):
        # Results phase, phase + up, ... stand `behind` one sample, and `down` samples apart.
        before, behind = divmod(phase * down, up)
        taps = _taps(np.arange(-reach, reach + 1, dtype=np.float64) - behind / up, lobe, reach)
        rows = len(range(phase, count, up))
        windows = as_strided(
            padded[before:], (rows, taps.size), (down * padded.itemsize, padded.itemsize), writeable=False
        )
        result[phase::up] = matmul(windows, taps)
    return result


def _taps(distance: NDArray[np.float64], lobe: float, reach: int) -> NDArray[np.float32]:
    """Compute the coefficients of samples at a distance; they sum up to 1, so that silence stays silent."""
    window = np.i0(_BETA * np.sqrt(np.maximum(0.0, 1 - np.square(distance / reach))))
    taps = np.where(np.abs(distance) <= reach, np.sinc(distance / lobe) * window, 0.0)
    result: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    return result
