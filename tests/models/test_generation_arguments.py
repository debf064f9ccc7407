"""Arguments of generate and stream that are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from attnlib import models

from . import decoders


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.LanguageModel:
    model = models.load(decoders.write_folder(tmp_path_factory.mktemp("llama") / "model"))
    assert isinstance(model, models.LanguageModel)
    return model


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("", {}, "a prompt is empty"),
        ([[]], {}, "a prompt is empty"),
        ([1, 260], {}, "token id 260 is unknown"),
        ([[1], [-1]], {}, "token id -1 is unknown"),
        ([1] * 128, {}, "prompt 0 has 128 tokens, which leaves no room in a context of 128"),
        ("a", {"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ("a", {"temperature": -1.0}, "temperature must be at least 0"),
        ("a", {"temperature": float("nan")}, "temperature must be at least 0, got nan"),
        ("a", {"top_k": 0}, "top_k must be at least 1"),
        ("a", {"top_p": 0.0}, "top_p must be above 0"),
        ("a", {"min_p": 2.0}, "min_p must be from 0 to 1"),
        ("a", {"repetition_penalty": 0.0}, "repetition_penalty must be from 1e-06 to 1e+06, got 0"),
        ("a", {"stop": [""]}, "stop must hold texts that are not empty"),
        ("a", {"stop_token_ids": [999]}, "stop_token_ids holds 999"),
        ("a", {"num_beams": 0}, "num_beams must be at least 1"),
        ("a", {"num_beams": 2, "temperature": 1.0}, "num_beams takes no temperature"),
        ("a", {"length_penalty": 33.0, "num_beams": 2}, "length_penalty must be from -32 to 32, got 33"),
        (
            "a",
            {"length_penalty": -1e4, "num_beams": 2},
            "length_penalty must be from -32 to 32, got -10000.0",
        ),
        (
            "a",
            {"length_penalty": float("nan"), "num_beams": 2},
            "length_penalty must be from -32 to 32, got nan",
        ),
        ("\ud800", {}, "a text is not valid Unicode"),
    ],
)
def test_bad_input(model: models.LanguageModel, prompts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        model.generate(prompts, **options)


@pytest.mark.parametrize("prompts", [b"abc", b"", bytearray(b"abc"), 5, None, [b"abc"], ["a", 5], iter("ab")])
def test_prompts_that_are_none(model: models.LanguageModel, prompts: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^generate: (each of )?prompts must be a text or a sequence of token"
    ):
        model.generate(prompts, max_new_tokens=1)
    with pytest.raises(TypeError, match=r"^generate: (.* a text or|token ids)"):
        model.stream(prompts, max_new_tokens=1)
