"""Malformed folders: each an error that names the file and the field or tensor."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import models
from attnlib.models.files.safetensors_file import SafetensorsFile

from . import folders


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = folders.make(tmp_path_factory.mktemp("sound") / "model")
    model.max_length = 16
    return model.write()


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path, file: str, *parts: str, error: type[Exception] = ValueError) -> None:
    with pytest.raises(error) as info:
        models.load(folder)
    message = str(info.value)
    assert message.startswith(str(folder / file)), message
    for part in parts:
        assert part in message, message


def edit(path: Path, **changes: Any) -> None:
    data = json.loads(path.read_text())
    data.update(changes)
    folders.write_json(path, {k: v for k, v in data.items() if v is not ...})


ABSENT: Any = ...

SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")


@pytest.mark.parametrize("field", [*SIZES, "max_position_embeddings", "type_vocab_size"])
@pytest.mark.parametrize("value", [ABSENT, None, 0, -3, 10**12, 10**40, 2.5, "24", True, [24], {}])
def test_sizes_in_the_config(field: str, value: Any, folder: Path) -> None:
    edit(folder / "config.json", **{field: value})
    refused(folder, "config.json", field)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model_type", ABSENT),
        ("model_type", "gpt2"),
        ("model_type", "mpnet2"),
        ("model_type", 3),
        ("hidden_act", "mish"),
        ("hidden_act", 5),
        ("layer_norm_eps", -1e-5),
        ("layer_norm_eps", 7),
        ("layer_norm_eps", "small"),
        ("layer_norm_eps", float("nan")),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("is_decoder", "yes"),
        ("num_attention_heads", 5),
    ],
)
def test_other_fields_of_the_config(field: str, value: Any, folder: Path) -> None:
    edit(folder / "config.json", **{field: value})
    refused(folder, "config.json", field)


@pytest.mark.parametrize(
    ("field", "value"), [("relative_attention_num_buckets", 16), ("max_position_embeddings", 2)]
)
def test_fields_of_mpnet(field: str, value: Any, tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model", "mpnet")
    model.config[field] = value
    refused(model.write(), "config.json", field)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"bert"', "[" * 100_000, "\x00"])
@pytest.mark.parametrize("file", ["config.json", "1_Pooling/config.json", "sentence_bert_config.json"])
def test_files_that_are_no_json_objects(file: str, text: str, folder: Path) -> None:
    (folder / file).write_text(text)
    refused(folder, file)


def test_files_that_are_not_utf8(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'{"model_type": "b\xff"}')
    refused(folder, "config.json")


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "tokenizer.json", "1_Pooling/config.json"]
)
def test_missing_files(file: str, folder: Path) -> None:
    (folder / file).unlink()
    refused(folder, file, error=FileNotFoundError)


def test_a_missing_folder(tmp_path: Path) -> None:
    refused(tmp_path / "none", "", "no such folder", error=FileNotFoundError)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 100, -1])
def test_truncated_weights(size: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    refused(folder, "model.safetensors", "not a valid safetensors file")


def header_of(path: Path) -> tuple[dict[str, Any], bytes]:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def write_header(path: Path, header: Any, body: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [13, 25]},
        {"shape": [1 << 62, 24]},
        {"shape": [-13, -24]},
        {"shape": "many"},
        {"data_offsets": [0, 1 << 60]},
        {"data_offsets": [8, 4]},
        {"data_offsets": [-8, 4]},
        {"dtype": "F64"},
        {"dtype": "F31"},
    ],
)
def test_inconsistent_headers(change: dict[str, Any], folder: Path) -> None:
    path = folder / "model.safetensors"
    header, body = header_of(path)
    header["embeddings.word_embeddings.weight"].update(change)
    write_header(path, header, body)
    refused(folder, "model.safetensors", "not a valid safetensors file")


def test_metadata_of_null_are_none(folder: Path) -> None:
    """The library safetensors, which checks files first, reads it so."""
    path = folder / "model.safetensors"
    header, body = header_of(path)
    write_header(path, {"__metadata__": None, **header}, body)
    assert SafetensorsFile(path).metadata == {}


@pytest.mark.parametrize("size", [0, 1, 1 << 31, (1 << 64) - 1])
def test_wrong_header_sizes(size: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    refused(folder, "model.safetensors", "not a valid safetensors file")


def test_wrong_tensors_are_all_named(tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    tensors = model.tensors
    del tensors["embeddings.LayerNorm.bias"]
    del tensors["encoder.layer.1.attention.self.key.weight"]
    tensors["encoder.layer.0.output.dense.weight"] = np.zeros((3, 4), np.float32)
    tensors["encoder.layer.0.attention.self.value.weight"] = np.zeros((23, 24), np.float32)
    tensors["encoder.layer.1.output.dense.bias"] = np.zeros(24, np.int32)
    tensors["encoder.layer.2.output.dense.bias"] = np.zeros(24, np.float32)
    model.write()
    refused(
        model.folder,
        "model.safetensors",
        "embeddings.LayerNorm.bias is missing",
        "encoder.layer.1.attention.self.key.weight is missing",
        "encoder.layer.0.output.dense.weight is (3, 4), config.json wants (24, 40)",
        "encoder.layer.0.attention.self.value.weight is (23, 24), config.json wants (24, 24)",
        "encoder.layer.1.output.dense.bias has dtype I32",
        "encoder.layer.2.output.dense.bias is not part of the model",
    )


@pytest.mark.parametrize("text", ["", "{}", '{"version": "1.0"}', "[]", "\x00"])
def test_malformed_tokenizers(text: str, folder: Path) -> None:
    (folder / "tokenizer.json").write_text(text)
    refused(folder, "tokenizer.json", "not a tokenizer")


def test_a_tokenizer_of_another_model(folder: Path) -> None:
    tokenizer = folders.tokenizer()
    tokenizer.add_tokens(["new"])
    tokenizer.save(str(folder / "tokenizer.json"))
    refused(folder, "tokenizer.json", "14 tokens", "vocab_size in config.json is 13")


def test_a_tokenizer_with_gaps_is_found_out_when_used(folder: Path) -> None:
    data = json.loads((folder / "tokenizer.json").read_text())
    data["model"]["vocab"]["cat"] = 4000
    folders.write_json(folder / "tokenizer.json", data)
    with pytest.raises(ValueError, match="holds 4000, outside a table of 13 rows"):
        models.load(folder).encode("the cat")


@pytest.mark.parametrize("length", [0, -1, "long", 2.5, 2])
def test_absurd_maximum_lengths(length: Any, folder: Path) -> None:
    edit(folder / "sentence_bert_config.json", max_seq_length=length)
    refused(folder, "tokenizer.json" if length == 2 else "sentence_bert_config.json", "length")


@pytest.mark.parametrize("length", [0, "long", float("nan")])
def test_absurd_maximum_lengths_of_the_tokenizer(length: Any, folder: Path) -> None:
    (folder / "sentence_bert_config.json").unlink()
    folders.write_json(folder / "tokenizer_config.json", {"model_max_length": length})
    refused(folder, "tokenizer_config.json", "model_max_length")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("pooling_mode", "median"),
        ("pooling_mode", []),
        ("pooling_mode", 3),
        ("pooling_mode", [["cls"]]),
        ("pooling_mode_cls_token", "yes"),
        ("include_prompt", "no"),
        ("word_embedding_dimension", 25),
        ("embedding_dimension", -1),
    ],
)
def test_pooling(field: str, value: Any, folder: Path) -> None:
    edit(folder / "1_Pooling" / "config.json", **{field: value})
    refused(folder, "1_Pooling/config.json", field)


@pytest.mark.parametrize(
    "modules",
    [
        {},
        [],
        [3],
        [{}],
        [{"type": "a.Transformer"}],
        [{"type": "a.Transformer", "path": 3}],
        [{"type": "a.Transformer", "path": "../other"}, {"type": "a.Pooling", "path": "1_Pooling"}],
        [{"type": "a.Transformer", "path": "/etc"}, {"type": "a.Pooling", "path": "1_Pooling"}],
        [{"type": "a.Transformer", "path": ""}],
        [{"type": "a.Pooling", "path": "1_Pooling"}],
        [{"type": f"a.{kind}", "path": "1_Pooling"} for kind in ("Transformer", "Normalize", "Pooling")],
        [{"type": "a.CLIPModel", "path": ""}],
    ],
)
def test_modules(modules: Any, folder: Path) -> None:
    folders.write_json(folder / "modules.json", modules)
    refused(folder, "modules.json")


def test_modules_that_are_not_supported_are_named(folder: Path) -> None:
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("LSTM", "2_LSTM"), ("Normalize", "3")]
    folders.write_json(folder / "modules.json", [{"type": f"a.{k}", "path": p} for k, p in kinds])
    refused(folder, "modules.json", "LSTM is not supported")


@pytest.mark.parametrize(
    ("changes", "file", "part"),
    [
        ({"in_features": 25}, "config.json", "in_features is 25"),
        ({"out_features": 0}, "config.json", "out_features"),
        ({"activation_function": "torch.nn.Mish"}, "config.json", "activation_function"),
        ({"use_residual": True}, "config.json", "use_residual"),
        ({"bias": False}, "model.safetensors", "unexpected: 'bias'"),
        ({"out_features": 7}, "model.safetensors", "'weight' is (5, 24), expected (7, 24)"),
    ],
)
def test_dense_layers(changes: dict[str, Any], file: str, part: str, folder: Path) -> None:
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense")]
    folders.write_json(folder / "modules.json", [{"type": f"a.{k}", "path": p} for k, p in kinds])
    (folder / "2_Dense").mkdir()
    weights = {"linear.weight": np.zeros((5, 24), np.float32), "linear.bias": np.zeros(5, np.float32)}
    folders.save_file(weights, folder / "2_Dense" / "model.safetensors")
    folders.write_json(folder / "2_Dense" / "config.json", {"in_features": 24, "out_features": 5, **changes})
    refused(folder, f"2_Dense/{file}", part)


@pytest.mark.parametrize("prompts", [ABSENT, {}, {"query": 3}, []])
def test_prompts(prompts: Any, folder: Path) -> None:
    path = folder / "config_sentence_transformers.json"
    folders.write_json(path, {})
    edit(path, default_prompt_name="query", prompts=prompts)
    refused(folder, "config_sentence_transformers.json", "prompt")


@pytest.mark.parametrize("dtype", ["float31", "int16", np.complex64])
def test_dtypes(dtype: Any, folder: Path) -> None:
    with pytest.raises((TypeError, ValueError), match="dtype"):
        models.load(folder, dtype=dtype)


@pytest.mark.parametrize("package", ["safetensors", "tokenizers"])
def test_an_extra_that_is_not_installed(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ImportError, match=re.escape('pip install "attnlib[models]"')):
        models.load(folder)
