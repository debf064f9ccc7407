"""Files of CTranslate2: what is read, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from attnlib.models.files.ctranslate2_file import CTranslate2File

from .speech import pack_variables

RNG = np.random.default_rng(3)
VARIABLES: dict[str, np.ndarray[Any, Any]] = {
    "a/weight": RNG.standard_normal((5, 7)).astype(np.float32),
    "half/weight": RNG.standard_normal((5, 3, 2)).astype(np.float16),
    "brain/weight": RNG.standard_normal(4).astype(ml_dtypes.bfloat16),
    "heads": np.array(6, np.int16),
    "bytes/weight": RNG.integers(-127, 128, (5, 7)).astype(np.int8),
    "bytes/weight_scale": RNG.uniform(50, 90, 5).astype(np.float32),
    "words/weight": RNG.integers(-1000, 1000, (5, 7)).astype(np.int16),
    "words/weight_scale": np.array(900, np.float32),
    "conv/weight": RNG.integers(-127, 128, (4, 3, 2)).astype(np.int8),
    "conv/weight_scale": RNG.uniform(50, 90, 4).astype(np.float32),
    "empty": np.zeros((0, 3), np.float32),
}
ALIASES = {"b/weight": "a/weight"}
DATA = pack_variables(VARIABLES, ALIASES)


def _open(tmp_path: Path, data: bytes = DATA) -> CTranslate2File:
    path = tmp_path / "model.bin"
    path.write_bytes(data)
    return CTranslate2File(path)


def test_what_is_in_it(tmp_path: Path) -> None:
    file = _open(tmp_path)
    assert (file.spec, file.revision) == ("WhisperSpec", 3)
    floats = {name for name in VARIABLES if name != "heads"} | {"b/weight"}
    assert set(file.shapes) == floats
    for name in ("a/weight", "half/weight", "brain/weight", "empty"):
        found = file.tensor(name)
        assert found.dtype == VARIABLES[name].dtype
        assert not found.flags.writeable
        np.testing.assert_array_equal(found, VARIABLES[name])
        file.forget(name)
        np.testing.assert_array_equal(file.tensor(name), VARIABLES[name])
    np.testing.assert_array_equal(file.tensor("b/weight"), VARIABLES["a/weight"])
    assert file.number("heads") == 6
    assert "heads" in file
    assert file.number("beads", 3) == 3


def test_integers_with_scales(tmp_path: Path) -> None:
    file = _open(tmp_path)
    for name in ("bytes", "words", "conv"):
        weight, scale = VARIABLES[f"{name}/weight"], VARIABLES[f"{name}/weight_scale"]
        scale = scale.reshape((-1,) + (1,) * (weight.ndim - 1))
        exact = weight.astype(np.float32) / scale
        np.testing.assert_array_equal(file.tensor(f"{name}/weight"), exact)
        assert file.tensor(f"{name}/weight").dtype == np.float32
        if weight.ndim == 2:
            rows = np.array([[4, 0], [1, 1]])
            np.testing.assert_array_equal(file.rows(f"{name}/weight", rows), exact[rows])


def test_a_scale_beside_floats_means_nothing(tmp_path: Path) -> None:
    """Nor does it say anything of NaN in them."""
    signalling = np.array([[0x7D01, 0x3C00]], np.uint16).view(np.float16)
    variables = {"w/weight": signalling, "w/weight_scale": np.array(900, np.float32)}
    file = _open(tmp_path, pack_variables(variables, {}))
    assert file.tensor("w/weight").tobytes() == signalling.tobytes()


def test_aliases_of_scaled_integers(tmp_path: Path) -> None:
    """The scale goes with the weight, whether it has an alias of its own or not."""
    wanted = _open(tmp_path).tensor("bytes/weight")
    for aliases in (
        {"tied/weight": "bytes/weight"},
        {"tied/weight": "bytes/weight", "tied/weight_scale": "bytes/weight_scale"},
        {"tied/weight_scale": "bytes/weight_scale", "tied/weight": "bytes/weight"},
    ):
        file = _open(tmp_path, pack_variables(VARIABLES, aliases))
        np.testing.assert_array_equal(file.tensor("tied/weight"), wanted)


def test_every_cut_is_an_error(tmp_path: Path) -> None:
    for size in range(len(DATA)):
        with pytest.raises(ValueError, match=r"model\.bin: (cut off|not a model|it says)"):
            _open(tmp_path, DATA[:size])


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no\.bin"):
        CTranslate2File(tmp_path / "no.bin")


def _one(**change: Any) -> bytes:
    """Lay out a file of one variable of which something is wrong."""
    field = {"axes": 2, "shape": (2, 3), "kind": 0, "size": 24, "data": bytes(24), **change}
    head = struct.pack("<IH", 6, 2) + b"S\0" + struct.pack("<II", 1, field.get("count", 1))
    shape = struct.pack(f"<B{len(field['shape'])}I", field["axes"], *field["shape"])
    variable = struct.pack("<H", 2) + field.get("name", b"w\0") + shape
    variable += struct.pack("<BI", field["kind"], field["size"]) + field["data"]
    return head + variable + struct.pack("<I", 0)


def test_the_pattern_of_the_next_test_is_sound(tmp_path: Path) -> None:
    assert _open(tmp_path, _one()).shapes == {"w": (2, 3)}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (struct.pack("<I", 5) + DATA[4:], "binary version 5"),
        (_one(count=2**32 - 1), "4294967295 variables"),
        (_one(shape=(2**32 - 1, 2**32 - 1), size=2**32 - 1), "takes 73786976260478468100"),
        (_one(size=23), "has 23 bytes, but as float32"),
        (_one(shape=(2**20, 2**8), size=2**30), "cut off: w wants 1073741824 bytes"),
        (_one(axes=9), "9 axes"),
        (_one(kind=6), "number 6"),
        (_one(name=b"\xff\0"), "UTF-8"),
        (pack_variables(VARIABLES, {"b": "nothing"}), "alias b of nothing"),
        (pack_variables(VARIABLES, {"empty": "heads"}), "alias empty of heads"),
        (pack_variables({**VARIABLES, "a/weight_scale": np.zeros(4, np.float32)}, {}), "a/weight_scale"),
        *(
            (pack_variables({**VARIABLES, "words/weight_scale": np.array(scale, np.float32)}, {}), problem)
            for scale, problem in [
                (0, r"words/weight_scale must be finite and above 0, found 0\.0"),
                (np.nan, "words/weight_scale must be finite and above 0, found nan"),
                (np.inf, "words/weight_scale must be finite and above 0, found inf"),
            ]
        ),
        (_one()[:12] + struct.pack("<I", 2) + 2 * _one()[16:-4] + bytes(4), "w is there twice"),
    ],
)
def test_nonsense_is_named(data: bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=problem) as error:
        _open(tmp_path, data)
    assert "model.bin" in str(error.value)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    file = _open(tmp_path)
    with pytest.raises(ValueError, match="beads is missing"):
        file.number("beads")
    with pytest.raises(ValueError, match="should be one number"):
        file.number("a/weight")
