"""GGUF files: what is read, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from fuzzing import gguf_layout

from attnlib import models
from attnlib.models.files.gguf_file import GgufFile

from . import decoders

gguf = pytest.importorskip("gguf")

IDS = np.random.default_rng(1).integers(0, 256, (2, 33))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return decoders.write_gguf(tmp_path / "model.gguf")


def test_the_same_model_as_from_a_folder(path: Path, tmp_path: Path) -> None:
    """Undoing the order of q and k gives the very weights of the folder, so the bits agree."""
    folder = decoders.write_folder(tmp_path / "folder")
    np.testing.assert_array_equal(models.load(path)(IDS), models.load(folder)(IDS))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_types_of_tensors(kind: str, tmp_path: Path) -> None:
    """Tensors and single rows are what the package makes of its own blocks."""
    file = GgufFile(decoders.write_gguf(tmp_path / "model.gguf", kind))
    weights = decoders.tensors()
    quantisation = gguf.GGMLQuantizationType[kind]
    for name, plain in (
        ("token_embd.weight", weights["model.embed_tokens.weight"]),
        ("blk.1.ffn_down.weight", weights["model.layers.1.mlp.down_proj.weight"]),
    ):
        wanted = gguf.quants.dequantize(gguf.quants.quantize(plain, quantisation), quantisation)
        assert file.shapes[name] == plain.shape
        np.testing.assert_array_equal(file.tensor(name).astype(np.float32), wanted)
        rows = np.array([[3, 0], [31, 3]])
        np.testing.assert_array_equal(file.rows(name, rows).astype(np.float32), wanted[rows])


def test_plain_tensors_are_views(path: Path) -> None:
    tensor = GgufFile(path).tensor("output_norm.weight")
    assert not tensor.flags.writeable
    assert not tensor.flags.owndata


def test_every_cut_is_an_error(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    cut = tmp_path / "cut.gguf"
    sizes = [*range(0, 200, 7), *range(200, len(data), 1999), len(data) - 40]
    for size in sizes:
        cut.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.gguf: "):
            GgufFile(cut)


@pytest.mark.parametrize(
    ("offset", "layout", "value", "message"),
    [
        (0, "<4s", b"GGML", "does not begin with GGUF"),
        (4, "<I", 1, "version 1 is not supported"),
        (8, "<Q", 1 << 60, "says 1152921504606846976 tensors"),
        (16, "<Q", 1 << 60, "says 1152921504606846976 fields"),
        (24, "<Q", 1 << 60, "says 1152921504606846976 bytes of a text"),
    ],
)
def test_absurd_headers(path: Path, offset: int, layout: str, value: object, message: str) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, offset, value)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        GgufFile(path)


def _tensor_entry(data: bytes, name: str) -> int:
    """Find where the axes of a tensor stand in the header."""
    text = name.encode()
    return data.index(struct.pack("<Q", len(text)) + text) + 8 + len(text)


@pytest.mark.parametrize(
    ("skip", "layout", "value", "message"),
    [
        (0, "<I", 5, "output_norm.weight has 5 axes"),
        (4, "<Q", 1 << 50, "cut off: tensor output_norm.weight ends at byte"),
        (12, "<I", 999, "output_norm.weight has type number 999, which is not supported"),
        (12, "<I", 26, "output_norm.weight has type I32, which is not supported"),
        (16, "<Q", 1 << 62, "cut off: tensor output_norm.weight ends at byte"),
        (
            4,
            "<Q",
            1 << 62,
            r"cut off: tensor output_norm.weight is \(4611686018427387904,\), which no file holds",
        ),
    ],
)
def test_absurd_tensors(path: Path, skip: int, layout: str, value: int, message: str) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, _tensor_entry(bytes(data), "output_norm.weight") + skip, value)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        GgufFile(path)


def test_a_missing_tensor_is_named(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b"blk.1.ffn_down.weight", b"blk.1.ffn_dawn.weight"))
    with pytest.raises(ValueError, match=r"blk\.1\.ffn_down\.weight is missing"):
        models.load(path)


def test_another_architecture_is_refused(path: Path) -> None:
    data = path.read_bytes()
    field = struct.pack("<Q", 20) + b"general.architecture" + struct.pack("<IQ", 8, 5)
    path.write_bytes(data.replace(field + b"llama", field + b"mamba"))
    with pytest.raises(ValueError, match=r"general\.architecture 'mamba' is not supported; known are llama"):
        models.load(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.gguf: there is no such file"):
        models.load(tmp_path / "none.gguf")


def test_the_chat_template(path: Path) -> None:
    model = models.load(path)
    assert isinstance(model, models.LanguageModel)
    assert model.tokenizer is not None
    assert model.tokenizer.chat([{"role": "user", "content": "hé"}]) == "[user]hé"
    ids = model.tokenizer.encode("hé <end>")
    assert len(ids) == 5
    assert ids[-1] == 256
    assert model.tokenizer.decode(ids) == "hé "


@pytest.mark.parametrize(
    ("added", "factor"),
    [
        ({"scaling.factor": 2.0}, 2.0),
        ({"scale_linear": 4.0}, 4.0),
        ({"scaling.factor": 2.0, "scale_linear": 4.0}, 2.0),
        ({"scaling.factor": 0.0, "scale_linear": 4.0}, 1.0),
        ({"scaling.type": b"linear"}, 1.0),
        ({"scaling.type": b"none", "scaling.factor": 2.0}, 1.0),
    ],
)
def test_scaled_positions(added: dict[str, object], factor: float, path: Path, tmp_path: Path) -> None:
    """As llama.cpp reads them: linear unless the type is none, by the new key or that of old."""
    file = gguf_layout.parse(path.read_bytes())
    for name, value in added.items():
        field = f"llama.rope.{name}".encode()
        file.fields.append((field, 8 if isinstance(value, bytes) else 6, value))
    path.write_bytes(gguf_layout.write(file))
    scaling = {"rope_type": "linear", "factor": factor}
    folder = decoders.write_folder(tmp_path / "folder", rope_scaling=scaling)
    np.testing.assert_array_equal(models.load(path)(IDS), models.load(folder)(IDS))


@pytest.mark.parametrize("factor", [0.5, -2.0, float("nan")])
def test_absurd_scales_of_positions(factor: float, path: Path) -> None:
    file = gguf_layout.parse(path.read_bytes())
    file.fields.append((b"llama.rope.scaling.factor", 6, factor))
    path.write_bytes(gguf_layout.write(file))
    with pytest.raises(ValueError, match=r"model\.gguf: llama\.rope\.scaling\.factor must be"):
        models.load(path)


@pytest.mark.parametrize(
    ("pre", "add", "added"),
    [
        (b"llama-bpe", None, True),
        (b"llama-bpe", False, False),
        (b"gpt-2", None, False),
        (b"gpt-2", True, True),
        (None, None, False),
    ],
)
def test_the_token_before_a_text(pre: bytes | None, add: bool | None, added: bool, path: Path) -> None:
    """llama.cpp puts one before texts of llama-bpe, unless add_bos_token says otherwise."""
    file = gguf_layout.parse(path.read_bytes())
    file.fields.append((b"tokenizer.ggml.bos_token_id", 4, 258))
    if pre is not None:
        file.fields.append((b"tokenizer.ggml.pre", 8, pre))
    if add is not None:
        file.fields.append((b"tokenizer.ggml.add_bos_token", 7, add))
    path.write_bytes(gguf_layout.write(file))
    model = models.load(path)
    assert isinstance(model, models.LanguageModel)
    assert model.tokenizer is not None
    plain = model.tokenizer.encode("a b", special=False)
    assert len(plain) == 3
    assert model.tokenizer.encode("a b") == [258] * added + plain


def test_turns_and_messages_end_a_text_too(path: Path) -> None:
    file = gguf_layout.parse(path.read_bytes())
    file.fields.append((b"tokenizer.ggml.eot_token_id", 4, 258))
    file.fields.append((b"tokenizer.ggml.eom_token_id", 4, 256))
    path.write_bytes(gguf_layout.write(file))
    model = models.load(path)
    assert isinstance(model, models.LanguageModel)
    assert model.settings.end_ids == (256, 258)
    file.fields[-1] = (b"tokenizer.ggml.eom_token_id", 4, 260)
    path.write_bytes(gguf_layout.write(file))
    with pytest.raises(ValueError, match=r"tokenizer\.ggml\.eom_token_id must be from 0 to 259, found 260"):
        models.load(path)


def test_blocks_of_nothing(path: Path) -> None:
    """An axis of 0 in a tensor of blocks."""
    file = gguf_layout.parse(path.read_bytes())
    file.tensors.append(gguf_layout.Tensor(b"nothing", [0, 3], int(gguf.GGMLQuantizationType.Q8_0), 0))
    path.write_bytes(gguf_layout.write(file))
    assert GgufFile(path).tensor("nothing").shape == (3, 0)
    assert GgufFile(path).rows("nothing", np.array([2, 0])).shape == (2, 0)


def test_queries_and_keys_of_different_halves(path: Path) -> None:
    """They become one matrix; neither float16 nor bfloat16 holds the other."""
    wanted = models.load(decoders.write_gguf(path, "BF16"))(IDS)
    file = gguf_layout.parse(path.read_bytes())
    data = bytearray(file.data)
    tensor = next(tensor for tensor in file.tensors if tensor.name == b"blk.0.attn_q.weight")
    tensor.kind = int(gguf.GGMLQuantizationType.F16)
    part = slice(tensor.offset, tensor.offset + 2 * 32 * 32)
    numbers = np.frombuffer(bytes(data[part]), ml_dtypes.bfloat16).astype(np.float16)
    data[part] = numbers.tobytes()
    file.data = bytes(data)
    path.write_bytes(gguf_layout.write(file))
    np.testing.assert_allclose(models.load(path)(IDS), wanted, rtol=1e-4, atol=1e-4)
