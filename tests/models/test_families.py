"""Models of each family against a float64 oracle, and what the folder's files decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attnlib
from attnlib import models
from attnlib.models.families import bert, mpnet

from . import folders

Array = NDArray[Any]


def normalised(vectors: Array) -> Array:
    unit: Array = vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
    return unit


def means(model: folders.Model) -> Array:
    return np.array([model.hidden(text).mean(axis=0) for text in folders.TEXTS])


def assert_close(found: Array, wanted: Array, tolerance: float = 5e-6) -> None:
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert", "mpnet"])
def test_a_family(family: str, tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model", family)
    encoder = models.load(model.write())
    assert encoder.dimension == folders.HIDDEN
    assert encoder.max_length == (18 if family in ("roberta", "mpnet") else 20)
    assert_close(encoder.encode(folders.TEXTS), normalised(means(model)))
    assert_close(encoder.encode(folders.TEXTS, normalize=False), means(model))


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_a_single_text_has_the_bits_of_one_among_others(family: str, tmp_path: Path) -> None:
    """Its positions are the beginning of the table; those of several texts are gathered."""
    encoder = models.load(folders.make(tmp_path / "model", family).write())
    together = encoder.encode(folders.TEXTS)
    for text, vector in zip(folders.TEXTS, together, strict=True):
        np.testing.assert_array_equal(encoder.encode(text), vector)


@pytest.mark.parametrize("name", ["xlm-roberta", "camembert"])
def test_other_names_of_roberta(name: str, tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model", "roberta")
    model.config["model_type"] = name
    assert_close(models.load(model.write()).encode(folders.TEXTS), normalised(means(model)))


@pytest.mark.parametrize(
    ("pooling", "function"),
    [
        ({}, lambda h: h.mean(0)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda h: h[0]),
        ({"pooling_mode_max_tokens": True}, lambda h: h.max(0)),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, lambda h: h.sum(0) / np.sqrt(len(h))),
        ({"pooling_mode_lasttoken": True}, lambda h: h[-1]),
        ({"pooling_mode": "lasttoken"}, lambda h: h[-1]),
        ({"pooling_mode": "weightedmean"}, lambda h: np.average(h, axis=0, weights=np.arange(len(h)) + 1)),
        (
            {
                "pooling_mode_cls_token": True,
                "pooling_mode_mean_tokens": True,
                "word_embedding_dimension": 24,
            },
            lambda h: np.concatenate([h[0], h.mean(0)]),
        ),
        ({"pooling_mode": ["max", "cls"]}, lambda h: np.concatenate([h.max(0), h[0]])),
    ],
)
def test_pooling(pooling: dict[str, Any], function: Any, tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    model.pooling = pooling
    model.modules.remove("Normalize")
    encoder = models.load(model.write())
    wanted = np.array([function(model.hidden(text)) for text in folders.TEXTS])
    assert encoder.dimension == wanted.shape[1]
    assert_close(encoder.encode(folders.TEXTS), wanted)
    assert_close(encoder.encode(folders.TEXTS, normalize=True), normalised(wanted))


def test_a_plain_folder_is_pooled_by_the_mean(tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    model.modules = []
    assert_close(models.load(model.write()).encode(folders.TEXTS), means(model))


def test_a_transformer_in_a_folder_of_its_own(tmp_path: Path) -> None:
    model = folders.make(tmp_path / "0_Transformer")
    model.modules = []
    model.write()
    kinds = [("Transformer", "0_Transformer"), ("Pooling", "1_Pooling")]
    folders.write_json(tmp_path / "modules.json", [{"type": f"a.b.{k}", "path": p} for k, p in kinds])
    (tmp_path / "1_Pooling").mkdir()
    folders.write_json(tmp_path / "1_Pooling" / "config.json", {})
    assert_close(models.load(tmp_path).encode(folders.TEXTS), means(model))


@pytest.mark.parametrize(("limit", "expected"), [(7, 7), (3, 3), (999, 20)])
def test_maximum_length(limit: int, expected: int, tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    model.max_length = limit
    encoder = models.load(model.write())
    assert encoder.max_length == expected
    assert_close(encoder.encode(folders.TEXTS), normalised(means(model)))


@pytest.mark.parametrize(("limit", "expected"), [(7, 7), (10**30, 20), (1e30, 20)])
def test_maximum_length_of_the_tokenizer(limit: float, expected: int, tmp_path: Path) -> None:
    folder = folders.make(tmp_path / "model").write()
    folders.write_json(folder / "tokenizer_config.json", {"model_max_length": limit})
    assert models.load(folder).max_length == expected


@pytest.mark.parametrize("prefix", ["bert.", ""])
def test_names_of_other_checkpoints(prefix: str, tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    encoder = models.load(model.write())
    renamed = {
        prefix
        + k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for k, v in model.tensors.items()
    }
    renamed["cls.predictions.bias"] = np.zeros(3, np.float32)
    other = folders.Model(tmp_path / "other", "bert", model.config, renamed)
    np.testing.assert_array_equal(
        models.load(other.write()).encode(folders.TEXTS), encoder.encode(folders.TEXTS)
    )


@pytest.mark.parametrize("dtype", [np.float16, "bfloat16", np.float64])
def test_weights_of_other_dtypes(dtype: Any, tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    for name, array in model.tensors.items():
        if array.dtype == np.float32:
            model.tensors[name] = folders.bfloat16(array) if dtype == "bfloat16" else array.astype(dtype)
    assert_close(models.load(model.write()).encode(folders.TEXTS), normalised(means(model)))


def test_computing_in_bfloat16_is_near(tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    found = models.load(model.write(), dtype="bfloat16").encode(folders.TEXTS)
    assert (found * normalised(means(model))).sum(axis=1).min() > 0.999
    exact = models.load(tmp_path / "model", dtype="float64").encode(folders.TEXTS)
    # Pooling is in float32: a few roundings.
    assert_close(exact, normalised(means(model)), 8 * 2**-23)


@pytest.mark.parametrize("family", ["bert", "mpnet"])
def test_bits_do_not_depend_on_batches_or_threads(family: str, tmp_path: Path) -> None:
    encoder = models.load(folders.make(tmp_path / "model", family).write())
    wanted = encoder.encode(folders.TEXTS)
    for batch_tokens in (1, 9, 30, 10**9):
        np.testing.assert_array_equal(encoder.encode(folders.TEXTS, batch_tokens=batch_tokens), wanted)
    np.testing.assert_array_equal(encoder.encode(folders.TEXTS[::-1])[::-1], wanted)
    for text, vector in zip(folders.TEXTS, wanted, strict=True):
        np.testing.assert_array_equal(encoder.encode(text), vector)
    for threads in (1, 2):
        with attnlib.num_threads(threads):
            np.testing.assert_array_equal(encoder.encode(folders.TEXTS), wanted)


def test_kinds_of_texts(tmp_path: Path) -> None:
    encoder = models.load(folders.make(tmp_path / "model").write())
    wanted = encoder.encode(folders.TEXTS)
    for texts in (
        tuple(folders.TEXTS),
        iter(folders.TEXTS),
        np.array(folders.TEXTS),
        dict.fromkeys(folders.TEXTS),
    ):
        np.testing.assert_array_equal(encoder.encode(texts), wanted)
    assert encoder.encode("cat").shape == (24,)
    assert encoder.encode([]).shape == (0, 24)
    assert encoder.encode(iter([])).shape == (0, 24)
    assert encoder.encode([]).dtype == np.float32
    for bad in (b"cat", 3, None):
        with pytest.raises(TypeError, match=r"^encode: texts must be an iterable of str, got"):
            encoder.encode(bad)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^encode: texts\[1\] must be a str, got int"):
        encoder.encode(["a", 3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"^encode: a text is not valid Unicode"):
        encoder.encode(["a", "\ud800"])
    with pytest.raises(ValueError, match=r"^encode: batch_tokens must be positive, got 0"):
        encoder.encode(["a"], batch_tokens=0)


def test_a_stream_is_read_in_chunks(tmp_path: Path) -> None:
    encoder = models.load(folders.make(tmp_path / "model").write())
    read = 0

    def texts() -> Any:
        nonlocal read
        for i in range(5000):
            read += 1
            yield folders.TEXTS[i % len(folders.TEXTS)]

    chunks = encoder.encode_iter(texts())
    assert read == 0
    first = next(chunks)
    assert read < 5000
    found = np.concatenate([first, *chunks])
    np.testing.assert_array_equal(found, np.resize(encoder.encode(folders.TEXTS), (5000, 24)))
    np.testing.assert_array_equal(encoder.encode(texts()), found)


def test_progress(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    encoder = models.load(folders.make(tmp_path / "model").write())
    encoder.encode(folders.TEXTS)
    assert capfd.readouterr().err == ""
    encoder.encode(folders.TEXTS, show_progress=True)
    assert "7/7" in capfd.readouterr().err


def test_the_buckets_of_mpnet(tmp_path: Path) -> None:
    """Distances that the texts above do not have."""
    config = bert.BertConfig(13, 8, 1, 2, 8, "gelu", 1e-5, 600)
    model = mpnet.MPNetModel(config)
    table = model.relative_attention_bias.weight.value
    bias = model.relative_attention_bias(300)
    for i, j in ((0, 0), (0, 299), (299, 0), (150, 150), (20, 97), (97, 20), (5, 6), (200, 192), (100, 188)):
        np.testing.assert_array_equal(bias[:, i, j], table[folders.bucket(j - i)])
    wanted = [folders.bucket(j) for j in range(300)]
    np.testing.assert_array_equal(bias[:, 0], table[wanted].T)


def test_prompt_and_lower_case(tmp_path: Path) -> None:
    model = folders.make(tmp_path / "model")
    folder = model.write()
    plain = models.load(folder)
    folders.write_json(
        folder / "config_sentence_transformers.json",
        {"prompts": {"query": "the cat ", "other": "dogs "}, "default_prompt_name": "query"},
    )
    folders.write_json(folder / "sentence_bert_config.json", {"do_lower_case": True})
    encoder = models.load(folder)
    np.testing.assert_array_equal(encoder.encode("SAT"), plain.encode("the cat sat"))


@pytest.mark.parametrize(
    ("mode", "function"),
    [
        ("cls", lambda h: h[3]),
        ("mean", lambda h: h[3:].mean(0)),
        ("max", lambda h: h[3:].max(0)),
        ("mean_sqrt_len_tokens", lambda h: h[3:].sum(0) / np.sqrt(len(h) - 3)),
        ("weightedmean", lambda h: np.average(h[3:], axis=0, weights=np.arange(3, len(h)) + 1)),
        ("lasttoken", lambda h: h[-1]),
    ],
)
def test_a_prompt_that_is_not_pooled(mode: str, function: Any, tmp_path: Path) -> None:
    """It is read like the text, but its tokens, and [CLS] before them, are left out of the vector."""
    model = folders.make(tmp_path / "model")
    model.modules.remove("Normalize")
    model.pooling = {"pooling_mode": mode, "include_prompt": False}
    folder = model.write()
    plain = models.load(folder).encode(folders.TEXTS)
    prompts = {"prompts": {"query": "the cat "}, "default_prompt_name": "query"}
    folders.write_json(folder / "config_sentence_transformers.json", prompts)
    wanted = np.array([function(model.hidden("the cat " + text)) for text in folders.TEXTS])
    assert_close(models.load(folder).encode(folders.TEXTS), wanted)
    # Without a prompt nothing is left out.
    (folder / "config_sentence_transformers.json").unlink()
    np.testing.assert_array_equal(models.load(folder).encode(folders.TEXTS), plain)


def test_dense_layers(tmp_path: Path, rng: np.random.Generator) -> None:
    model = folders.make(tmp_path / "model")
    model.modules = ["Transformer", "Pooling", "Dense", "Dense", "Normalize"]
    folder = model.write()
    wanted = means(model)
    for place, width, activation in (("2_Dense", 10, "activation.Tanh"), ("3_Dense", 5, "linear.Identity")):
        weight = rng.standard_normal((width, wanted.shape[1])).astype(np.float32) * 0.3
        bias = rng.standard_normal(width).astype(np.float32)
        (folder / place).mkdir()
        folders.save_file(
            {"linear.weight": weight, "linear.bias": bias}, folder / place / "model.safetensors"
        )
        folders.write_json(
            folder / place / "config.json",
            {
                "in_features": wanted.shape[1],
                "out_features": width,
                "bias": True,
                "activation_function": f"torch.nn.modules.{activation}",
            },
        )
        wanted = wanted @ weight.T.astype(np.float64) + bias
        wanted = np.tanh(wanted) if "Tanh" in activation else wanted
    encoder = models.load(folder)
    assert encoder.dimension == 5
    assert_close(encoder.encode(folders.TEXTS), normalised(wanted))
