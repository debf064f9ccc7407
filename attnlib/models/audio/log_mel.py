"""What Whisper hears of a sound: the logarithm of its energy in bands, every hundredth of a second.

Letters: N samples, T frames, M mel bands, F frequencies.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from attnlib.checks import check_integer
from attnlib.functional import linear, pack_weight
from attnlib.models.audio.samples import check_samples

__all__ = ["LogMel", "mel_filters"]

# Energies below it are taken for it.
_FLOOR = 1e-10

# Below so many hertz Slaney's scale is linear, with so many hertz to a mel; above, 27 mels are a factor 6.4.
_BREAK, _HERTZ_PER_MEL, _STEP = 1000.0, 200.0 / 3, np.log(6.4) / 27


class LogMel:
    """The log-mel front end of Whisper (A. Radford et al., 2022, arXiv:2212.04356, section 2.2).

    Windows of 25 ms (Hann, 400 samples at 16 kHz) every 10 ms are transformed by Fourier; the squares are
    summed in `bands` triangles that lie evenly on the mel scale. Of that the logarithm to base 10 is taken,
    what is more than 8 below the loudest is raised to it, and ``(x + 4) / 4`` brings it to around 0.

    Parameters
    ----------
    bands
        Mel bands M, 80 or, for large-v3, 128.
    rate
        Samples a second. Default 16000.
    window
        Samples of a window. Default 400.
    hop
        Samples between neighbouring windows. Default 160.

    Raises
    ------
    TypeError, ValueError
        If one of these is no integer of at least 1.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib.models.audio import LogMel
    >>> LogMel(80)(np.zeros(16000, np.float32)).shape
    (80, 100)
    """

    def __init__(self, bands: int, *, rate: int = 16000, window: int = 400, hop: int = 160) -> None:
        self.bands = check_integer("LogMel", "bands", bands, 1)
        self.hop = check_integer("LogMel", "hop", hop, 1)
        self._window = window = check_integer("LogMel", "window", window, 1)
        rate = check_integer("LogMel", "rate", rate, 1)
        # Periodic, as spectra want it: the first value of the next period would be 0 again.
        self._shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        self._filters = pack_weight(mel_filters(bands, window, rate).astype(np.float32))

    def __call__(self, samples: NDArray[np.float32], frames: int | None = None) -> NDArray[np.float32]:
        """Compute features.

        Parameters
        ----------
        samples : (N,) float32
        frames
            The sound is cut after, or filled up with silence to, so many frames T. Default: as many as there
            are hops in it.

        Returns
        -------
        (M, T) float32 ndarray
            A transposed view, contiguous along M: as `attnlib.nn.Conv1d` reads it best.

        Raises
        ------
        TypeError, ValueError
            If `samples` is no such array, or `frames` no integer of at least 0.
        """
        check_samples("LogMel", samples)
        length = samples.size if frames is None else check_integer("LogMel", "frames", frames, 0) * self.hop
        count = length // self.hop
        if not count:
            return np.empty((self.bands, 0), np.float32)
        half = self._window // 2
        # Frame t is centred on sample t * hop. At both ends the sound is mirrored, silence like the rest.
        heard = samples[:length]
        padded = np.zeros(length + 2 * half)
        padded[half : half + heard.size] = heard
        padded[:half] = padded[half + 1 : 2 * half + 1][::-1]
        padded[half + length :] = padded[length - 1 : length + half - 1][::-1]
        # No later frame holds anything but zeros.
        loud = min(count, -(-(heard.size + half) // self.hop))
        windows = sliding_window_view(padded, self._window)[: loud * self.hop : self.hop]
        spectrum = np.fft.rfft(windows * self._shape, axis=-1)
        power = (np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)
        result = np.full((count, self.bands), np.log10(_FLOOR), np.float32)
        energy = linear(power, self._filters)
        np.log10(np.maximum(energy, np.float32(_FLOOR)), out=result[:loud])
        np.maximum(result, result.max(initial=-np.inf) - np.float32(8), out=result)
        result += np.float32(4)
        result *= np.float32(0.25)
        features: NDArray[np.float32] = result.T
        return features


def mel_filters(bands: int, window: int, rate: int) -> NDArray[np.float64]:
    """Compute the triangles that sum frequencies into mel bands, (M, F = window // 2 + 1).

    Corners lie evenly on Slaney's mel scale (M. Slaney, "Auditory Toolbox", 1998) from 0 to half the rate,
    each triangle from its left neighbour's peak to its right one's, and of area 1.
    """
    top = _BREAK / _HERTZ_PER_MEL + np.log(rate / 2 / _BREAK) / _STEP
    mels = np.linspace(0.0, top, bands + 2)
    linear_part = mels * _HERTZ_PER_MEL
    with np.errstate(over="ignore"):
        curved = _BREAK * np.exp(_STEP * (mels - _BREAK / _HERTZ_PER_MEL))
    corners = np.where(linear_part < _BREAK, linear_part, curved)
    frequencies = np.arange(window // 2 + 1) * (rate / window)
    left, peak, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (frequencies - left) / (peak - left), (right - frequencies) / (right - peak)
    result: NDArray[np.float64] = np.maximum(0.0, np.minimum(rising, falling)) * 2 / (right - left)
    return result
