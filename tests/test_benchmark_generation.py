"""What the benchmark's generation workloads are made of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from models import decoders

from attnlib.benchmark.engines import OURS, load
from attnlib.benchmark.texts import language_model_file
from attnlib.benchmark.workloads.generation import GENERATION
from attnlib.models import LanguageModel
from attnlib.models import load as load_model


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNLIB_TEST_MODELS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no SmolLM2.*real_model fetches it"):
        language_model_file()
    (tmp_path / "SmolLM2-135M-Instruct.Q4_1.gguf").touch()
    for workload in GENERATION:
        file, tokens, *_ = workload.inputs()
        assert (file.parent, tokens.ndim) == (tmp_path, 1)


def test_token_by_token_comes_to_what_a_prompt_does(tmp_path: Path) -> None:
    file = decoders.write_gguf(tmp_path / "tiny.gguf")
    tokens = np.arange(3, 23)
    engine = load(OURS, 1)
    (prompt,) = engine.calls("prompt", "float32", (file, tokens))
    (writing,) = engine.calls("writing", "float32", (file, tokens, 4))
    model = load_model(file)
    assert isinstance(model, LanguageModel)
    np.testing.assert_array_equal(prompt.run(), model(tokens[None])[0, -1])
    # Attention over few and over many queries takes two plans, which differ by rounding.
    np.testing.assert_allclose(writing.run(), prompt.run(), rtol=0, atol=1e-5)
