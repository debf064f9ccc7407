"""Packed weights in a file: the same bits, shared by processes, on every rung; damage is a ValueError."""

from __future__ import annotations

import json
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from arrays import normal
from processes import RunPython

import attnlib as al
from attnlib import nn

FORMATS = ("float32", "float64", "float16", "bfloat16", "int8", "int4")


@pytest.fixture
def weights(rng: np.random.Generator) -> dict[str, Any]:
    weights: dict[str, Any] = {}
    for name in FORMATS:
        for rows, columns in ((70, 45), (1, 1), (0, 5), (130, 200)):
            array = normal(rng, (rows, columns), np.float64 if name == "float64" else np.float32)
            weights[f"{name} {rows}x{columns}"] = al.pack_weight(array, dtype=name)
    weights["int4 groups"] = al.pack_weight(normal(rng, (20, 300), np.float32), dtype="int4", group_size=128)
    return {
        **weights,
        "bias": normal(rng, (7,), np.float32),
        "scalar": np.float64(2.5),
        "empty": np.ones((0, 3)),
    }


def products(weights: dict[str, Any]) -> dict[str, bytes]:
    """What distinguishes weights: their products with ones, or their bytes."""
    result = {}
    for name, weight in weights.items():
        if isinstance(weight, al.PackedWeight):
            dtype = np.float64 if name.startswith("float64") else np.float32
            x = np.linspace(-1, 1, 3 * weight.shape[1], dtype=dtype).reshape(3, -1)
            result[name] = al.linear(x, weight).tobytes() + weight.unpack().tobytes()
        else:
            result[name] = np.asarray(weight).tobytes()
    return result


@pytest.mark.parametrize("mapped", [True, False])
def test_round_trip(mapped: bool, weights: dict[str, Any], tmp_path: Path) -> None:
    al.save_packed(tmp_path / "file", weights)
    loaded = al.load_packed(tmp_path / "file", mapped=mapped)
    assert list(loaded) == list(weights)
    assert products(loaded) == products(weights)
    al.save_packed(tmp_path / "file", loaded)  # while it is mapped
    assert products(loaded) == products(al.load_packed(tmp_path / "file"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    array = loaded["bias"]
    assert isinstance(array, np.ndarray)
    assert array.flags.writeable == (not mapped)


def test_rungs(weights: dict[str, Any], tmp_path: Path, run_python: RunPython) -> None:
    """What one instruction set has written, another reads: the same stored numbers."""
    al.save_packed(tmp_path / "file", weights)
    expected = {n: w.unpack().tobytes().hex() for n, w in weights.items() if isinstance(w, al.PackedWeight)}
    (tmp_path / "expected").write_text(json.dumps(expected), encoding="utf-8")
    code = """
import json, attnlib as al
loaded, expected = al.load_packed("file"), json.load(open("expected"))
assert all(loaded[name].unpack().tobytes().hex() == value for name, value in expected.items())
print(al.isa())
"""
    code = code.replace(
        'json.load(open("expected"))', 'json.loads(__import__("pathlib").Path("expected").read_text())'
    )
    for rung in al.available_isas():
        assert run_python(code, env={"ATTNLIB_ISA": rung}).stdout.strip() == rung


@pytest.mark.skipif(sys.platform != "linux", reason="reads smaps_rollup from /proc")
def test_processes_share_it(tmp_path: Path, run_python: RunPython) -> None:
    """A weight of 64 MB that two processes have read through takes next to nothing of their own."""
    al.save_packed(tmp_path / "file", {"weight": al.pack_weight(np.ones((4096, 4096), np.float32))})
    code = """
import subprocess, sys, os
import numpy as np
import attnlib as al
def memory(field):
    with open("/proc/self/smaps_rollup") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) // 1024
x = np.ones((1, 4096), "float32")
before = memory("Private_Dirty"), memory("Pss")
weight = al.load_packed("file")["weight"]
assert al.linear(x, weight).max() == 4096
if len(sys.argv) > 1:
    print(memory("Private_Dirty") - before[0], memory("Pss") - before[1])
else:
    child = [sys.executable, "-c", os.environ["CODE"], "child"]
    print(subprocess.check_output(child, text=True))
"""
    private, share = map(int, run_python(code, env={"CODE": code}).stdout.split())
    assert private < 16  # MB
    assert share < 48


def test_layers(rng: np.random.Generator, tmp_path: Path) -> None:
    """All parameters of a layer, packed however they are; refused where the layer is another."""
    x = normal(rng, (2, 9, 16), np.float32)
    for dtype in ("float32", "bfloat16", "int8"):
        layer = nn.TransformerEncoderLayer(16, 4, 32, rng=rng).to(dtype)
        layer.save_packed(tmp_path / "layer")
        twin = nn.TransformerEncoderLayer(16, 4, 32).load_packed(tmp_path / "layer")
        assert twin(x).tobytes() == layer(x).tobytes()
    for made in (lambda: nn.Conv1d(8, 12, 3, groups=2, rng=rng), lambda: nn.LSTM(8, 5, rng=rng)):
        layer = made()
        layer.save_packed(tmp_path / "other")
        twin = made().load_packed(tmp_path / "other", mapped=False)
        assert {n: a.tobytes() for n, a in twin.state_dict().items()} == {
            n: a.tobytes() for n, a in layer.state_dict().items()
        }
    wrong = nn.TransformerEncoderLayer(16, 4, 31, rng=rng)
    before = wrong(x).tobytes()
    with pytest.raises(
        ValueError, match=r"(?s)layer.*'linear1\.weight' is PackedWeight \(32, 16\), expected \(31, 16\)"
    ):
        wrong.load_packed(tmp_path / "layer")
    with pytest.raises(ValueError, match=r"(?s)'weight' is missing.*'linear1.weight' is unexpected"):
        nn.Linear(3, 4).load_packed(tmp_path / "layer")
    assert wrong(x).tobytes() == before


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    for value in (np.arange(3), "text", np.ones(3, ">f4")):
        with pytest.raises(TypeError, match="'name' must be a PackedWeight"):
            al.save_packed(tmp_path / "file", {"name": value})  # type: ignore[dict-item]
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError):
        al.load_packed(tmp_path / "missing")


def write(path: Path, header: Any, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-(16 + len(text)) % 64)
    path.write_bytes(struct.pack("<8sII", b"ATTNPACK", 1, len(text)) + text + data)


GOOD = {"format": "float32", "shape": [1, 1], "group_size": 32, "panel_width": 48, "offset": 0, "nbytes": 192}
ARRAY = {"dtype": "float32", "shape": [4], "offset": 0, "nbytes": 16}
DAMAGED = [
    {"format": "float31"},
    {"format": ["float32"]},
    {"shape": [1, 1, 1]},
    {"shape": [2**40, 2**40]},
    {"shape": [-1, 1]},
    {"shape": [49, 1]},
    {"shape": [1, 1.0]},
    {"shape": None},
    {"offset": 64},
    {"offset": 1},
    {"offset": -64},
    {"nbytes": 2**61},
    {"nbytes": 128},
    {"panel_width": 0},
    {"panel_width": 10**15},
    {"group_size": 0},
    {"group_size": True},
    {"format": "int8", "shape": [1, 70000]},
    {"format": "int4", "group_size": 48},
]


def test_damaged_headers(tmp_path: Path) -> None:
    """Nothing is allocated by what a header says; the error names the file."""
    path = tmp_path / "file"
    write(path, {"entries": {"w": GOOD, "a": ARRAY}}, bytes(192))
    assert al.load_packed(path)["w"].shape == (1, 1)
    bad: list[Any] = [{"entries": {"w": {**GOOD, **change}}} for change in DAMAGED]
    bad += [{"entries": {"w": {k: v for k, v in GOOD.items() if k != key}}} for key in GOOD]
    bad += [
        {"entries": {"a": {**ARRAY, **c}}}
        for c in ({"dtype": "object"}, {"shape": [5]}, {"shape": [2**61, 8]})
    ]
    bad += [{}, [], {"entries": []}, {"entries": {"w": 3}}, b"{", b"\xff", b"[" * 100_000]
    for header in bad:
        write(path, header, bytes(192))
        with pytest.raises(ValueError, match=re.escape(str(path))):
            al.load_packed(path)


def test_cut_and_mutated_files(weights: dict[str, Any], tmp_path: Path) -> None:
    """Cut off anywhere, or with a byte of the header changed: an error, or weights that compute something."""
    path = tmp_path / "file"
    al.save_packed(path, {name: weights[name] for name in ("int8 70x45", "int4 70x45", "bias")})
    whole = path.read_bytes()
    for end in (0, 7, 15, 16, 100, len(whole) // 2, len(whole) - 64):
        path.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=re.escape(str(path))):
            al.load_packed(path)
    rng = np.random.default_rng(0)
    refused = named = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[int(rng.integers(0, 700))] = int(rng.integers(0, 256))
        path.write_bytes(damaged)
        try:
            loaded = al.load_packed(path)
        except ValueError as error:
            named += str(path) in str(error)
            refused += 1
            continue
        for weight in loaded.values():
            if isinstance(weight, al.PackedWeight):
                al.linear(np.ones((2, weight.shape[1]), np.float32), weight)
    assert named == refused > 100
