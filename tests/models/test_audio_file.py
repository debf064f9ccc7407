"""Sound files of every kind, whole and damaged."""

from __future__ import annotations

import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib.models.audio import check_audio, read_audio

from .speech import wav


def _frames(channels: int) -> np.ndarray[Any, Any]:
    frames = np.random.default_rng(channels).uniform(-1, 1, (701, channels))
    frames[:2] = [[-1.0], [1.0]]
    return frames


@pytest.mark.parametrize("extensible", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 5])
@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_integers(bits: int, channels: int, extensible: bool, tmp_path: Path) -> None:
    top = 2 ** (bits - 1)
    whole = np.clip(np.rint(_frames(channels) * top), -top, top - 1).astype(np.int64)
    if bits == 8:
        data = (whole + 128).astype(np.uint8).tobytes()
    else:
        data = whole.astype("<i4").reshape(-1, 1).view(np.uint8)[:, : bits // 8].tobytes()
    path = tmp_path / "a.wav"
    path.write_bytes(wav(data, channels=channels, bits=bits, extensible=extensible))
    exact = whole.mean(axis=1) / top
    found = read_audio(path)
    assert found.dtype == np.float32
    assert np.abs(found - exact).max() <= 2 * np.finfo(np.float32).eps


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("bits", [32, 64])
def test_floats(bits: int, channels: int, tmp_path: Path) -> None:
    frames = _frames(channels).astype(f"<f{bits // 8}")
    path = tmp_path / "a.wav"
    path.write_bytes(wav(frames.tobytes(), kind=3, channels=channels, bits=bits))
    exact = frames.astype(np.float64).mean(axis=1)
    assert np.abs(read_audio(path) - exact).max() <= np.finfo(np.float32).eps


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(bytes(2 * 44100), rate=44100))
    assert read_audio(path).shape == (16000,)
    assert read_audio(path, rate=8000).shape == (8000,)


SOUND = wav(np.arange(100, dtype="<i2").tobytes())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 bytes"),
        (SOUND[:11], "11 bytes"),
        (SOUND[:12], "cut off: there is no chunk 'fmt '"),
        (SOUND[:30], "cut off: its chunk 'fmt ' should have 16 bytes, but only 10"),
        (SOUND[:36], "cut off: there is no chunk 'data'"),
        (SOUND[:-1], "cut off: its chunk 'data' should have 200 bytes, but only 199"),
        (SOUND[:12] + SOUND[36:], "'data' comes before 'fmt '"),
        (SOUND[:12] + b"fmt " + struct.pack("<I", 4) + bytes(4), "'fmt ' has 4 bytes"),
        (SOUND[:12] + b"fmt " + struct.pack("<I", 2**32 - 1) + SOUND[20:], "4294967295 bytes"),
        (SOUND.replace(struct.pack("<4sI", b"data", 200), struct.pack("<4sI", b"data", 2**31)), "2147483648"),
        (wav(b""), "holds no samples"),
        (wav(bytes(3)), "no whole number of frames"),
        (wav(bytes(4), bits=12), "12 bits"),
        (wav(bytes(4), kind=3, bits=16), "16 bits"),
        (wav(bytes(4), channels=0), "0 channels"),
        (wav(bytes(4), rate=0), "a rate of 0"),
        (wav(bytes(4), rate=2**32 // 4), "a rate of 1073741824"),
        (wav(np.array([0, np.nan], "<f4").tobytes(), kind=3, bits=32), "nan at sample 1"),
        (wav(np.array([0, 1e300], "<f8").tobytes(), kind=3, bits=64), "inf at sample 1"),
    ],
)
def test_damage_is_named(data: bytes, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=problem) as error:
        read_audio(path)
    assert str(path) in str(error.value)


def _streamed(riff: int, data: int) -> bytes:
    """Return SOUND with other sizes in its header."""
    known, unknown = (struct.pack("<4sI", b"data", size) for size in (200, data))
    return SOUND[:4] + struct.pack("<I", riff) + SOUND[8:].replace(known, unknown)


@pytest.mark.parametrize(
    "sizes", [(2**32 - 1, 2**32 - 1), (0, 0), (2**32 - 1, 0), (0, 200), (236, 2**32 - 1)]
)
def test_what_came_through_a_pipe_is_read_to_its_end(sizes: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(_streamed(*sizes))
    np.testing.assert_array_equal(read_audio(path) * 2**15, np.arange(100))
    if sizes[1] != 200:
        path.write_bytes(_streamed(*sizes)[:-1])
        np.testing.assert_array_equal(read_audio(path) * 2**15, np.arange(99))


def test_memory_does_not_grow_with_the_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(np.full((2000, 4000), 64, "u1").tobytes(), bits=8, channels=4000))
    tracemalloc.start()
    try:
        samples = read_audio(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(samples, np.full(2000, -0.5, np.float32))
    assert peak < 6 << 20  # as floats, all would take 32 MB


def test_soundfile_is_asked_for_fewer_frames_of_more_channels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile = pytest.importorskip("soundfile")
    path = tmp_path / "a.flac"
    soundfile.write(path, np.full((3000, 8), 0.25), 16000)
    asked = []
    read = soundfile.SoundFile.read

    def noted(file: Any, frames: int, **options: Any) -> Any:
        asked.append(frames * file.channels)
        return read(file, frames, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", noted)
    monkeypatch.setattr("attnlib.models.audio.audio_file._BLOCK", 4096)
    np.testing.assert_array_equal(read_audio(path), np.full(3000, 0.25, np.float32))
    assert max(asked) <= 4096


def test_every_prefix_of_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for length in range(12, len(SOUND)):
        path.write_bytes(SOUND[:length])
        with pytest.raises(ValueError, match=r"a\.wav"):
            read_audio(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.wav"):
        read_audio(tmp_path / "no.wav")
    with pytest.raises(FileNotFoundError):
        read_audio(tmp_path)


@pytest.mark.parametrize("data", [b"fLaC" + bytes(40), wav(bytes(8), kind=7, bits=8)])
def test_other_kinds_need_soundfile(data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    path = tmp_path / "a.flac"
    path.write_bytes(data)
    with pytest.raises(ImportError, match=r"attnlib\[audio\]") as error:
        read_audio(path)
    assert str(path) in str(error.value)


def test_flac_by_soundfile(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    frames = np.random.default_rng(0).integers(-(2**15), 2**15, (3000, 2)).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", frames, 16000)
    found = read_audio(tmp_path / "a.flac")
    assert np.abs(found - frames.mean(axis=1) / 2**15).max() <= np.finfo(np.float32).eps
    (tmp_path / "b.flac").write_bytes(b"fLaC" + bytes(40))
    with pytest.raises(ValueError, match=r"b\.flac"):
        read_audio(tmp_path / "b.flac")


def test_arrays() -> None:
    whole = np.array([-(2**15), 0, 2**14], np.int16)
    assert check_audio("transcribe", whole).tolist() == [-1.0, 0.0, 0.5]
    assert check_audio("transcribe", [0.5, 1.0]).dtype == np.float32
    # Huge, but finite.
    assert check_audio("transcribe", np.full(9, 3e38, np.float32)).size == 9
    for bad, kind, problem in (
        (np.zeros(0), ValueError, "no samples"),
        (np.zeros((2, 3)), ValueError, r"\(2, 3\)"),
        (np.array([0.0, np.inf]), ValueError, "inf at sample 1"),
        (np.array([np.inf, -np.inf]), ValueError, "inf at sample 0"),
        (np.array([1, 2]), TypeError, "int64"),
        (np.array(["a"]), TypeError, "U1"),
    ):
        with pytest.raises(kind, match=f"transcribe: audio .*{problem}"):
            check_audio("transcribe", bad)
