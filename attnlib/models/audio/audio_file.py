"""Sound from files of any kind, and checks of what is given as an array."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array
from attnlib.models.audio.resample import HIGHEST_RATE, LOWEST_RATE, resample
from attnlib.models.audio.wav_file import NotPlainWav, read_wav
from attnlib.models.extras import require

__all__ = ["SAMPLE_RATE", "check_audio", "read_audio"]

SAMPLE_RATE = 16000

# Numbers that are read at a time, of all channels together: what a header says of their count is not
# believed.
_BLOCK = 1 << 20


def read_audio(path: str | os.PathLike[str], *, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """Read a sound file: the mean of its channels, at one sampling rate.

    Parameters
    ----------
    path
        A WAV file of integers or floats; or what the package soundfile reads (FLAC, Ogg, MP3 and more), if it
        is installed.
    rate
        Samples a second. Default 16000. A file of another rate is resampled.

    Returns
    -------
    (N,) float32 ndarray
        N is at least 1, and all are finite.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is empty, cut off, inconsistent, or holds NaN. The message begins with its path.
    ImportError
        If it is no plain WAV file and soundfile is not installed.
    """
    place = Path(path)
    if not place.is_file():
        raise FileNotFoundError(f"{place}: there is no such file")
    try:
        samples, found = read_wav(place)
    except NotPlainWav as error:
        if place.stat().st_size < 12:
            raise ValueError(str(error)) from None
        samples, found = _read_by_soundfile(place, str(error))
    if not LOWEST_RATE <= found <= HIGHEST_RATE:
        raise ValueError(
            f"{place}: a rate of {found} samples a second is not supported; possible are {LOWEST_RATE} to "
            f"{HIGHEST_RATE}"
        )
    return resample(check_audio(str(place), samples), found, rate)


def check_audio(caller: str, audio: ArrayLike) -> NDArray[np.float32]:
    """Return sound as float32, or raise an error that shows what is wrong with it.

    Parameters
    ----------
    caller
        What the message begins with.
    audio : (N,) floats, or int16

    Raises
    ------
    TypeError, ValueError
        If it is nothing of the kind, empty, or holds NaN or infinity.
    """
    array = as_array(f"{caller}: audio", audio)
    dtype = array.dtype.newbyteorder("=")
    if dtype == np.int16:
        array = array.astype(np.float32) / np.float32(32768)
    elif dtype not in (np.float16, np.float32, np.float64):
        raise TypeError(f"{caller}: audio must be float32 or int16, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{caller}: audio must have one axis, mono, got shape {array.shape}")
    if not array.size:
        raise ValueError(f"{caller}: audio holds no samples")
    with np.errstate(over="ignore"):
        result = array.astype(np.float32, copy=False)
    finite = np.isfinite(result)
    if not finite.all():
        place = int(np.argmin(finite))
        raise ValueError(f"{caller}: audio holds {result[place]} at sample {place}")
    return result


def _read_by_soundfile(path: Path, problem: str) -> tuple[NDArray[np.float32], int]:
    try:
        soundfile = require("soundfile", extra="audio")
    except ImportError as error:
        raise ImportError(f"{problem}; {error}", name=error.name) from None
    try:
        with soundfile.SoundFile(path) as file:
            blocks = [np.zeros(0, np.float32)]
            frames = max(_BLOCK // file.channels, 1)
            # Floats may be anything, which is complained about later.
            with np.errstate(over="ignore", invalid="ignore"):
                while len(block := file.read(frames, dtype="float32", always_2d=True)):
                    blocks.append(block.mean(axis=1, dtype=np.float64).astype(np.float32))
            return np.concatenate(blocks), int(file.samplerate)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: not a sound file that soundfile reads: {error}") from None
