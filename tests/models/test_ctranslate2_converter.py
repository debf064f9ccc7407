"""Files that CTranslate2's own converter writes, in every precision that it has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import models
from attnlib.models.files.ctranslate2_file import CTranslate2File

from . import speech

pytestmark = pytest.mark.real_model  # beside the other tests that want a peer's library; it fetches nothing


def _write(path: Path, precision: str) -> None:
    """Give the model to the library's specification of Whisper, and have that quantise and write it."""
    specs = pytest.importorskip("ctranslate2.specs")
    spec = specs.WhisperSpec(2, speech.CONFIG["encoder_attention_heads"], 2, 2)
    variables = speech.ctranslate2_variables()
    variables["decoder/projection/weight"] = variables["decoder/embeddings/weight"]
    for name, array in variables.items():
        if array.ndim:
            place: Any = spec
            *scopes, last = name.split("/")
            for scope in scopes:
                kind, _, number = scope.rpartition("_")
                listed = number.isdigit() and hasattr(place, kind)
                place = getattr(place, kind)[int(number)] if listed else getattr(place, scope)
            setattr(place, last, array)
    spec.register_vocabulary([str(number) for number in range(speech.VOCABULARY)])
    spec.validate()
    spec.optimize(precision)
    spec._serialize(str(path))


@pytest.mark.parametrize(
    ("precision", "bound"),
    [
        ("float32", 0.0),
        # A weight is off by half a step: of 2^-11 of itself, of 2^-8 of itself, of 1 / 1023 or 1 / 127 of the
        # largest. The largest of 32 or so normal numbers is twice their root of the mean square or more.
        ("float16", 2.0**-11),
        ("bfloat16", 2.0**-8),
        ("int16", 5 * 0.5 / 1023),
        ("int8", 5 * 0.5 / 127),
        ("int8_float16", 5 * 0.5 / 127),
        ("int8_bfloat16", 5 * 0.5 / 127 + 2.0**-8),
    ],
)
def test_precisions(precision: str, bound: float, tmp_path: Path) -> None:
    speech.write_ctranslate2_folder(tmp_path)
    _write(tmp_path / "model.bin", precision)
    file = CTranslate2File(tmp_path / "model.bin")
    for name, exact in speech.ctranslate2_variables().items():
        if exact.ndim:
            found = file.tensor(name).astype(np.float32)
            assert found.shape == exact.shape
            assert np.linalg.norm(found - exact) <= bound * np.linalg.norm(exact), name
    tied = "decoder/projection/weight"
    np.testing.assert_array_equal(file.tensor(tied), file.tensor("decoder/embeddings/weight"))
    rows = np.array([[3, 250]])
    np.testing.assert_array_equal(file.rows(tied, rows), file.tensor(tied)[rows])

    model, exact_model = models.load(tmp_path), models.load(speech.write_folder(tmp_path / "exact"))
    assert isinstance(model, models.SpeechModel)
    assert isinstance(exact_model, models.SpeechModel)
    assert model.network.config == exact_model.network.config
    features = np.random.default_rng(0).standard_normal((1, 80, 2 * speech.PLACES)).astype(np.float32)
    ids = np.random.default_rng(1).integers(0, speech.VOCABULARY, (1, 8))
    wanted = exact_model.network(features, ids)
    found = model.network(features, ids)
    # Through some ten products, one after another.
    assert np.linalg.norm(found - wanted) <= 10 * bound * np.linalg.norm(wanted)


def test_the_peer_reads_what_the_tests_write(tmp_path: Path) -> None:
    """The small models of the other tests are in the format, and compute the same there."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    speech.write_ctranslate2_folder(tmp_path)
    tokens = sorted(speech.tokenizer().get_vocab().items(), key=lambda entry: entry[1])
    names = [token for token, _ in tokens] + [f"<|{i * 0.02:.2f}|>" for i in range(speech.PLACES + 1)]
    (tmp_path / "vocabulary.json").write_text(json.dumps(names))
    peer = ctranslate2.models.Whisper(str(tmp_path), device="cpu", compute_type="float32")
    model = models.load(tmp_path)
    assert isinstance(model, models.SpeechModel)
    features = np.random.default_rng(0).standard_normal((2, 80, 2 * speech.PLACES)).astype(np.float32)
    wanted = np.asarray(peer.encode(ctranslate2.StorageView.from_array(features), to_cpu=True))
    found = model.network.encode(features)
    assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)
