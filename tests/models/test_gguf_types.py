"""Every type of tensor that the gguf package can read, against that package on the whole tensor."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

from attnlib.models.files.gguf_file import GgufFile

gguf = pytest.importorskip("gguf")


def quantises(kind: str) -> bool:
    """Whether the package writes the type, too."""
    try:
        gguf.quants.quantize(np.zeros((1, 256), np.float32), gguf.GGMLQuantizationType[kind])
    except NotImplementedError:
        return False
    return True


BLOCKED = [kind.name for kind in gguf.quants._type_traits if kind.name != "BF16"]
QUANTISED = [kind for kind in BLOCKED if quantises(kind)]
PLAIN = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "BF16": ml_dtypes.bfloat16}
UNKNOWN = [
    kind.name
    for kind in gguf.GGMLQuantizationType
    if kind not in gguf.quants._type_traits and kind.name not in PLAIN
]
SHAPES = [(7, 3), (2, 5, 1), (1,), (2, 2, 3, 1)]  # for blocks, the last axis counts these


def dequantised(blocks: NDArray[np.uint8], kind: str) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: NDArray[np.float32] = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
    return result


def random_blocks(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Draw blocks of bytes: any are valid, but those whose scales are no finite numbers are left out."""
    numbers, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    count = int(np.prod(shape))
    blocks = rng.integers(0, 256, (2 * count + 40, size), np.uint8)
    finite = np.isfinite(dequantised(blocks, kind)).reshape(-1, numbers).all(axis=1)
    return blocks[finite][:count].reshape(*shape[:-1], shape[-1] * size)


def write(path: Path, tensors: dict[str, tuple[NDArray[Any], str]]) -> GgufFile:
    writer = gguf.GGUFWriter(path, "llama")
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufFile(path)


def check(file: GgufFile, name: str, wanted: NDArray[Any], rng: np.random.Generator) -> None:
    """The tensor is what is wanted, and so are rows of it: some of them, twice, and none."""
    assert file.shapes[name] == wanted.shape
    np.testing.assert_array_equal(file.tensor(name), wanted)
    if wanted.ndim > 1:
        for shape in ((3, 4), (1,), (0,)):
            numbers = rng.integers(0, len(wanted), shape)
            np.testing.assert_array_equal(file.rows(name, numbers), wanted[numbers])
    file.forget(name)
    np.testing.assert_array_equal(file.tensor(name), wanted)


@pytest.mark.parametrize("kind", BLOCKED)
def test_types_in_blocks(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    blocks = [random_blocks(rng, kind, shape) for shape in SHAPES]
    file = write(tmp_path / "x.gguf", {f"t{n}": (data, kind) for n, data in enumerate(blocks)})
    for number, data in enumerate(blocks):
        wanted = dequantised(data, kind)
        assert np.isfinite(wanted).all()
        assert np.abs(wanted).max() > 0
        check(file, f"t{number}", wanted, rng)


@pytest.mark.parametrize("kind", QUANTISED)
def test_what_the_package_quantises(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    """What was written is near what was quantised, so that the two are not merely wrong in the same way."""
    numbers = rng.standard_normal((4, 512)).astype(np.float32)
    blocks = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType[kind])
    found = write(tmp_path / "x.gguf", {"t": (blocks, kind)}).tensor("t")
    # Ternary types round to -1, 0 and 1 times the largest: an error of up to half of that.
    assert np.linalg.norm(found - numbers) < np.linalg.norm(numbers) * (1 if kind.startswith("TQ") else 0.15)


@pytest.mark.parametrize("kind", BLOCKED)
def test_scales_that_are_no_numbers(kind: str, tmp_path: Path) -> None:
    """Warnings are errors here: the file's NaN is the model's, and nothing is printed about it."""
    _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    blocks = np.full((3, 2 * size), 0xFF, np.uint8)
    file = write(tmp_path / "x.gguf", {"t": (blocks, kind)})
    np.testing.assert_array_equal(file.tensor("t"), dequantised(blocks, kind))


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_types(kind: str, tmp_path: Path, rng: np.random.Generator) -> None:
    tensors = [rng.standard_normal(shape).astype(PLAIN[kind]) for shape in SHAPES]
    raw = [data.view(np.uint16) if kind == "BF16" else data for data in tensors]
    if kind == "BF16":
        raw = [data.view(np.uint8) for data in raw]
    file = write(tmp_path / "x.gguf", {f"t{n}": (data, kind) for n, data in enumerate(raw)})
    for number, data in enumerate(tensors):
        assert file.tensor(f"t{number}").dtype == PLAIN[kind]
        check(file, f"t{number}", data, rng)


@pytest.mark.parametrize("kind", UNKNOWN)
def test_other_types_are_refused(kind: str, tmp_path: Path) -> None:
    """They are named, with the tensor."""
    path = tmp_path / "x.gguf"
    numbers, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    data = np.zeros((2, 256 // numbers * size), np.uint8)
    with pytest.raises(ValueError, match=rf"x\.gguf: tensor odd has type {kind}, which is not supported"):
        write(path, {"odd": (data, kind)})


def test_a_row_that_is_no_whole_block(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    write(path, {"odd": (np.zeros((2, 36), np.uint8), "Q4_0")})
    data = bytearray(path.read_bytes())
    # The tensor's axes, innermost first, follow its name.
    place = data.index(b"odd") + 3 + 4
    assert struct.unpack_from("<Q", data, place) == (64,)
    struct.pack_into("<Q", data, place, 63)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"tensor odd is \(2, 63\), but Q4_0 has 32 numbers in a block"):
        GgufFile(path)
