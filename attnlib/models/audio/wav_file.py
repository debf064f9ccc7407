"""Sound from WAV files: integers of 8 to 32 bits and floats.

The layout is that of "Multimedia Programming Interface and Data Specifications 1.0" (IBM and Microsoft,
1991): chunks with a name and a size, of which ``fmt `` says what the numbers in ``data`` are.
``WAVE_FORMAT_EXTENSIBLE`` came later and says it in another place. The module ``wave`` of Python knows no
floats, and in the older versions that attnlib supports not that one either.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.files.mapped_file import MappedFile

__all__ = ["NotPlainWav", "read_wav"]

_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE

# What follows the number of the format in the identifier of an extensible file.
_EXTENSIBLE_TAIL = bytes.fromhex("000000001000800000aa00389b71")

# Numbers that are converted at a time, of all channels together: all of them as floats would take several
# times the file's size.
_BLOCK = 1 << 18

# What stands for a size that was not known when the header was written, since the file went into a pipe.
_UNKNOWN_SIZES = (0, 0xFFFFFFFF)


class NotPlainWav(ValueError):
    """The file is no WAV file, or holds something else than plain numbers."""


@dataclass(frozen=True)
class _Format:
    kind: int
    channels: int
    rate: int
    bits: int

    @property
    def frame_size(self) -> int:
        """The bytes of one number of every channel."""
        return self.channels * self.bits // 8


def read_wav(path: Path) -> tuple[NDArray[np.float32], int]:
    """Read a WAV file.

    Parameters
    ----------
    path
        The file: 8, 16, 24 or 32 bit integers, or 32 or 64 bit floats; any number of channels. One that was
        written into a pipe, whose header could not say how long it would become, is read to its end.

    Returns
    -------
    samples : (N,) float32 ndarray
        The mean of the channels, in ``[-1, 1]`` for integers.
    rate : int
        Samples a second.

    Raises
    ------
    NotPlainWav
        If the file is of another kind, which another reader may know.
    ValueError
        If it is cut off or inconsistent. The message begins with its path.
    """
    if path.stat().st_size < 12:
        raise NotPlainWav(f"{path}: not a sound file: it has {path.stat().st_size} bytes")
    data = MappedFile(path).bytes
    if data[:4].tobytes() != b"RIFF" or data[8:12].tobytes() != b"WAVE":
        raise NotPlainWav(f"{path}: not a WAV file: it does not begin with RIFF and WAVE")
    streamed = int.from_bytes(data[4:8].tobytes(), "little") in _UNKNOWN_SIZES
    form: _Format | None = None
    position = 12
    while position + 8 <= data.size:
        name, size = struct.unpack("<4sI", data[position : position + 8].tobytes())
        position += 8
        if name == b"data" and form is not None and (size == 0xFFFFFFFF or (streamed and size == 0)):
            # Who wrote it may have been stopped in the midst of a frame.
            size = (data.size - position) // form.frame_size * form.frame_size
        if size > data.size - position:
            raise ValueError(
                f"{path}: cut off: its chunk {name.decode('latin-1')!r} should have {size} bytes, but only "
                f"{data.size - position} are left in the file"
            )
        chunk = data[position : position + size]
        if name == b"fmt ":
            form = _read_format(path, chunk[:40].tobytes())
        elif name == b"data":
            if form is None:
                raise ValueError(f"{path}: its chunk 'data' comes before 'fmt ', which says what it holds")
            return _mono(path, chunk, form), form.rate
        position += size + size % 2
    raise ValueError(f"{path}: cut off: there is no chunk {'data' if form else 'fmt '!r} in the file")


def _read_format(path: Path, chunk: bytes) -> _Format:
    if len(chunk) < 16:
        raise ValueError(f"{path}: its chunk 'fmt ' has {len(chunk)} bytes, at least 16 are needed")
    kind, channels, rate, _, frame_size, bits = struct.unpack("<HHIIHH", chunk[:16])
    if kind == _EXTENSIBLE and len(chunk) == 40 and chunk[26:] == _EXTENSIBLE_TAIL:
        kind = int.from_bytes(chunk[24:26], "little")
    known = {_PCM: (8, 16, 24, 32), _FLOAT: (32, 64)}
    if kind not in known:
        raise NotPlainWav(f"{path}: WAV of kind {kind} is not plain numbers")
    if bits not in known[kind]:
        raise ValueError(f"{path}: {bits} bits a sample are not supported; known are {known[kind]}")
    form = _Format(kind, channels, rate, bits)
    if channels == 0 or frame_size != form.frame_size:
        raise ValueError(
            f"{path}: {channels} channels of {bits} bits do not make frames of {frame_size} bytes, as it says"
        )
    return form


def _mono(path: Path, data: NDArray[np.uint8], form: _Format) -> NDArray[np.float32]:
    if data.size % form.frame_size:
        raise ValueError(
            f"{path}: its chunk 'data' has {data.size} bytes, which are no whole number of frames of "
            f"{form.frame_size} bytes"
        )
    count = data.size // form.frame_size
    samples = np.empty(count, np.float32)
    step = max(_BLOCK // form.channels, 1)
    for start in range(0, count, step):
        stop = min(start + step, count)
        block = _numbers(data[start * form.frame_size : stop * form.frame_size], form)
        frames = block.reshape(-1, form.channels)
        # What is too large a float becomes infinity, and is complained about with the rest.
        with np.errstate(over="ignore", invalid="ignore"):
            samples[start:stop] = (
                frames[:, 0] if form.channels == 1 else frames.mean(axis=1, dtype=np.float64)
            )
    return samples


def _numbers(data: NDArray[np.uint8], form: _Format) -> NDArray[Any]:
    """Turn bytes into numbers of which 1 is the loudest."""
    bits = form.bits
    if form.kind == _FLOAT:
        floats: NDArray[Any] = data.view(f"<f{bits // 8}")
        return floats
    if bits == 8:
        # Only these have no sign, and silence at 128.
        data = data ^ np.uint8(128)
    if bits == 24:
        # The three bytes become the upper ones of four, so that the sign is where it belongs.
        wide = np.zeros((data.size // 3, 4), np.uint8)
        wide[:, 1:] = data.reshape(-1, 3)
        data, bits = wide.reshape(-1), 32
    integers: NDArray[Any] = data.view(f"<i{bits // 8}")
    return np.ldexp(integers.astype(np.float32), 1 - bits)
