"""Sound files: WAV of all kinds, and what soundfile reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from models import speech

from attnlib.models.audio import read_audio

from ..finding import Finding
from ..mutations import mutate_bytes
from .reader import ReaderTarget, Rng

__all__ = ["AudioFiles"]

_SOUND = (0.3 * np.sin(np.arange(240) / 7.0)).astype(np.float32)

# One sample of a file of few bytes may become some of these, and no more: whoever reads must not make
# gigabytes of a small file.
_MOST_SAMPLES = 4 << 20


def _wav(
    folder: Path, kind: int, bits: int, channels: int, rate: int = 16000, extensible: bool = False
) -> None:
    frames = np.repeat(_SOUND[:, None], channels, axis=1)
    if kind == 3:
        data = frames.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = (frames * 127 + 128).astype(np.uint8).tobytes()
    else:
        integers = (frames * 2.0 ** (bits - 1)).astype("<i4")
        data = integers[..., None].view(np.uint8)[..., : bits // 8].tobytes()
    made = speech.wav(data, kind=kind, channels=channels, rate=rate, bits=bits, extensible=extensible)
    (folder / "sound.wav").write_bytes(made)


def _streamed(folder: Path) -> None:
    """Write what comes out of a pipe: sizes that nobody knew when they were written."""
    _wav(folder, 1, 16, 1)
    data = bytearray((folder / "sound.wav").read_bytes())
    data[4:8] = bytes(4)
    place = data.index(b"data") + 4
    data[place : place + 4] = b"\xff\xff\xff\xff"
    (folder / "sound.wav").write_bytes(data)


def _by_soundfile(kind: str, folder: Path) -> None:
    import soundfile

    soundfile.write(folder / "sound.wav", _SOUND, 16000, format=kind)


class AudioFiles(ReaderTarget):
    """`read_audio`, which `transcribe` reads by."""

    mutated = (".wav",)

    def seeds(self) -> dict[str, Callable[[Path], Any]]:
        """Return the valid files. All have one name: what they are, their first bytes say."""
        plain: dict[str, Callable[[Path], Any]] = {
            f"pcm{bits}": partial(_wav, kind=1, bits=bits, channels=1) for bits in (8, 16, 24, 32)
        }
        plain |= {f"float{bits}": partial(_wav, kind=3, bits=bits, channels=2) for bits in (32, 64)}
        plain["stereo"] = partial(_wav, kind=1, bits=16, channels=2, rate=44100)
        plain["slow"] = partial(_wav, kind=1, bits=16, channels=1, rate=8000)
        plain["extensible"] = partial(_wav, kind=1, bits=24, channels=3, extensible=True)
        plain["streamed"] = _streamed
        if importlib.util.find_spec("soundfile") is not None:
            plain |= {
                kind.lower(): partial(_by_soundfile, kind)
                for kind in ("FLAC", "OGG", "AIFF", "AU", "CAF", "MP3")
            }
        return plain

    def mutate(self, rng: Rng, name: str, data: bytes) -> bytes:
        """Change the bytes."""
        return mutate_bytes(rng, data)

    def load(self, folder: Path) -> Any:
        """Read the file."""
        return read_audio(folder / "sound.wav")

    def use(self, loaded: Any) -> None:
        """Check what `read_audio` promises."""
        if loaded.dtype != np.float32 or loaded.ndim != 1 or not loaded.size:
            raise Finding(f"audio is {loaded.dtype} {loaded.shape}")
        if not np.isfinite(loaded).all():
            raise Finding("audio is not finite")
        if loaded.size > _MOST_SAMPLES:
            raise Finding("a small file became a long sound")
