"""The log-mel features of Whisper by a discrete Fourier transform in float64; nothing of attnlib."""

from __future__ import annotations

from typing import Any

import numpy as np

EPS = float(np.finfo(np.float32).eps)
Float = np.ndarray[Any, np.dtype[np.float64]]


def features(samples: Float, bands: int, frames: int | None, *, fourier: float = 0.0) -> tuple[Float, Float]:
    """Return the features (M, T) and how far float32 may be from them.

    `fourier` is the eps in which the transform itself is computed: a fast one errs in each element by about
    eps log2(n) of the norm of its n inputs.
    """
    length = samples.size if frames is None else frames * 160
    sound = np.zeros(length)
    sound[: min(length, samples.size)] = samples[:length]
    sound = np.pad(sound, 200, mode="reflect")
    count = length // 160
    places = np.arange(400)
    window = np.square(np.sin(np.pi * places / 400))
    turns = np.exp(-2j * np.pi / 400 * places[:, None] * np.arange(201))
    windows = np.stack([sound[t * 160 :][:400] * window for t in range(count)])
    spectrum = np.abs(windows @ turns)
    energy = np.square(spectrum) @ filters(bands).T
    floor = 1e-10
    logs = np.log10(np.maximum(energy, floor))
    result = (np.maximum(logs, logs.max() - 8) + 4) / 4
    # A sum of positive terms errs by a part of itself; the filters and powers were rounded too; the logarithm
    # turns a part into a sum, log10(1 + d) < d / ln 10, and errs by a few units of its own size.
    part = (8 * np.sqrt(201) + 4) * EPS
    error = fourier * np.log2(400) * np.linalg.norm(windows, axis=1, keepdims=True)
    missed = (2 * spectrum * error + np.square(error)) @ filters(bands).T + part * energy
    # Downwards a logarithm errs more than upwards. What is raised to 8 below the loudest errs by its own
    # error only as far as that lifts it above; and with the loudest.
    relative = np.minimum(missed / np.maximum(energy, 10 ** (logs.max() - 8)), 0.9)
    bound = (4 * EPS * np.abs(logs) - np.log10(1 - relative)) / 4 + 4 * EPS * (np.abs(result) + 1)
    bound = np.maximum(bound, bound.ravel()[logs.argmax()])
    return result.T, bound.T


def filters(bands: int) -> Float:
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
