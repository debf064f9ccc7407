"""all-MiniLM-L6-v2 on real sentences, against sentence-transformers."""

from __future__ import annotations

import json
import pydoc_data.topics
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib
from attnlib import models

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="session")
def sentences() -> list[str]:
    """500 sentences and paragraphs of Python's own help texts, from a few words to beyond the limit."""
    text = "\n\n".join(pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics))
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    parts = [part for paragraph in paragraphs for part in re.split(r"(?<=[.!?]) ", paragraph)]
    short = [part for part in dict.fromkeys(parts) if len(part) > 10]
    long = [part for part in dict.fromkeys(paragraphs) if len(part) > 600]
    rng = np.random.default_rng(500)
    chosen = [
        *rng.choice(short, 480, replace=False),
        *rng.choice(long, 19, replace=False),
        " ".join(long[:5]),
    ]
    return [str(part) for part in chosen]


@pytest.fixture(scope="session")
def encoder(minilm: Path) -> models.SentenceEncoder:
    return models.load(minilm)


@pytest.fixture(scope="session")
def vectors(encoder: models.SentenceEncoder, sentences: list[str]) -> Any:
    return encoder.encode(sentences)


def test_the_oracle_agrees(vectors: Any, minilm: Path, sentences: list[str], tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    # In a process of its own: its imports warn, and its threads would stay.
    code = """if True:
        import json, sys
        import numpy as np
        from sentence_transformers import SentenceTransformer
        folder, texts, result = sys.argv[1:]
        model = SentenceTransformer(folder, device="cpu")
        with open(texts) as file:
            np.save(result, model.encode(json.load(file)))
    """
    texts, result = tmp_path / "texts.json", tmp_path / "result.npy"
    texts.write_text(json.dumps(sentences))
    command = [sys.executable, "-c", code, str(minilm), str(texts), str(result)]
    subprocess.run(command, check=True, timeout=600, capture_output=True)
    wanted = np.load(result).astype(np.float64)
    assert vectors.shape == wanted.shape == (500, 384)
    assert np.abs(vectors - wanted).max() <= 2e-6
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1) * np.linalg.norm(wanted, axis=1)
    assert ((vectors * wanted).sum(axis=1) / lengths).min() >= 0.999999


def test_bits_do_not_depend_on_threads(
    encoder: models.SentenceEncoder, vectors: Any, sentences: list[str]
) -> None:
    for threads in (1, 2):
        with attnlib.num_threads(threads):
            np.testing.assert_array_equal(encoder.encode(sentences), vectors)


def test_bits_do_not_depend_on_the_batch(
    encoder: models.SentenceEncoder, vectors: Any, sentences: list[str]
) -> None:
    np.testing.assert_array_equal(encoder.encode(sentences, batch_tokens=100), vectors)
    np.testing.assert_array_equal(encoder.encode(sentences, batch_tokens=1 << 20), vectors)
    np.testing.assert_array_equal(encoder.encode(iter(sentences[::-1]))[::-1], vectors)
    for index in range(0, 500, 7):
        np.testing.assert_array_equal(encoder.encode(sentences[index]), vectors[index])


def test_bfloat16_is_near(minilm: Path, vectors: Any, sentences: list[str]) -> None:
    found = models.load(minilm, dtype="bfloat16").encode(sentences)
    assert found.dtype == np.float32
    assert (found.astype(np.float64) * vectors).sum(axis=1).min() > 0.999


def test_int8_is_near(
    minilm: Path, encoder: models.SentenceEncoder, vectors: Any, sentences: list[str]
) -> None:
    """Texts of a usual length are within 0.999, a few words less so; bits move as little as in float32."""
    quantised = models.load(minilm, dtype="int8")
    found = quantised.encode(sentences)
    assert found.dtype == np.float32
    assert (found.astype(np.float64) * vectors).sum(axis=1).mean() >= 0.999
    with attnlib.num_threads(1):
        np.testing.assert_array_equal(quantised.encode(sentences[:50], batch_tokens=100), found[:50])
    texts = [" ".join(sentences[start : start + 12]) for start in range(0, 384, 12)]
    wanted = encoder.encode(texts).astype(np.float64)
    assert (quantised.encode(texts) * wanted).sum(axis=1).min() >= 0.999


def test_the_command_line(minilm: Path, vectors: Any, sentences: list[str], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(sentences))
    output = tmp_path / "vectors.npy"
    command = ["-m", "attnlib", "embed", "--model", str(minilm), "--output", str(output)]
    command = [sys.executable, *command, str(tmp_path / "texts.txt")]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=600)
    np.testing.assert_array_equal(np.load(output), vectors)
