"""Arguments of generate and stream that are refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from attnlib import models, nn

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


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_beams": 2.5}, TypeError, "num_beams must be an integer, got float"),
        ({"num_beams": "2"}, TypeError, "num_beams must be an integer, got str"),
        ({"top_k": 2.0, "temperature": 1.0}, TypeError, "top_k must be an integer, got float"),
        ({"top_k": "2", "temperature": 1.0}, TypeError, "top_k must be an integer, got str"),
        ({"temperature": "1"}, TypeError, "temperature must be a number, got str"),
        ({"temperature": None}, TypeError, "temperature must be a number, got NoneType"),
        ({"top_p": "1"}, TypeError, "top_p must be a number, got str"),
        ({"min_p": [0.1]}, TypeError, "min_p must be a number, got list"),
        ({"repetition_penalty": "1"}, TypeError, "repetition_penalty must be a number, got str"),
        ({"length_penalty": "1"}, TypeError, "length_penalty must be a number, got str"),
        ({"temperature": 10**400}, ValueError, "temperature must be at least 0, got 10"),
        ({"seed": -1}, ValueError, "seed must be at least 0, got -1"),
        ({"seed": "1"}, TypeError, "seed must be an integer, got str"),
        ({"stop": 5}, TypeError, "stop must be a text or several, got int"),
        ({"stop_token_ids": 2}, TypeError, "stop_token_ids must be several integers, got int"),
        ({"stop_token_ids": [2.5]}, TypeError, "stop_token_ids must hold integers, found 2.5"),
        ({"stop_token_ids": ["a"]}, TypeError, "stop_token_ids must hold integers, found 'a'"),
    ],
)
def test_options_of_wrong_types(
    model: models.LanguageModel, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"^generate: {re.escape(message)}"):
        model.generate("a", max_new_tokens=1, **options)
    if not options.keys() & {"num_beams", "length_penalty"}:
        with pytest.raises(error, match=f"^generate: {re.escape(message)}"):
            model.stream("a", max_new_tokens=1, **options)


def test_kinds_of_options(model: models.LanguageModel) -> None:
    """Numbers of NumPy, an iterator, and None for no stop strings."""
    drawn: dict[str, Any] = {"max_new_tokens": 5, "temperature": 1.0, "top_k": 4, "seed": 3}
    numpy: dict[str, Any] = {"temperature": np.float32(1), "top_k": np.uint8(4), "seed": np.int64(3)}
    wanted = model.generate("a", stop_token_ids=[], **drawn)
    assert model.generate("a", stop_token_ids=[], stop=None, **drawn | numpy) == wanted
    assert "".join(model.stream("a", stop_token_ids=[], stop=None, **drawn)) == wanted.text
    third = wanted.tokens[2]
    ended = model.generate("a", stop_token_ids=iter([third]), **drawn)
    assert ended.tokens == wanted.tokens[: wanted.tokens.index(third) + 1]


def test_a_past_of_another_model(model: models.LanguageModel) -> None:
    with pytest.raises(TypeError, match=r"^stream: past must be a KVCache, got int$"):
        model.stream("ab", past=5)  # type: ignore[arg-type]
    for sizes in ((1, 2, 8), (3, 2, 8), (2, 4, 8), (2, 2, 4)):
        layers, heads, size = sizes
        past = nn.KVCache(layers, 1, heads, size)
        with pytest.raises(ValueError, match=rf"^stream: past has {re.escape(str(sizes))} layers, heads and"):
            model.stream("ab", past=past)
        assert past.positions[0] == 0


@pytest.mark.parametrize("prompts", [b"abc", b"", bytearray(b"abc"), 5, None, [b"abc"], ["a", 5], iter("ab")])
def test_prompts_that_are_none(model: models.LanguageModel, prompts: Any) -> None:
    with pytest.raises(
        TypeError, match=r"^generate: (each of )?prompts must be a text or a sequence of token"
    ):
        model.generate(prompts, max_new_tokens=1)
    with pytest.raises(TypeError, match=r"^generate: (.* a text or|token ids)"):
        model.stream(prompts, max_new_tokens=1)
