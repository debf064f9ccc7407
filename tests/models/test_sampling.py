"""How a token is chosen, and scores that are none."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attnlib import models
from attnlib.models.generation.sampling import Sampling, log_probability, log_softmax64

from . import decoders


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> models.LanguageModel:
    model = models.load(decoders.write_folder(tmp_path_factory.mktemp("llama") / "model"))
    assert isinstance(model, models.LanguageModel)
    return model


def test_probabilities() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.3, 0.2]))
    for sampling, wanted in (
        (Sampling(temperature=1.0), [0.1, 0.4, 0.3, 0.2]),
        (Sampling(temperature=0.5), np.array([1, 16, 9, 4]) / 30),
        (Sampling(temperature=1.0, top_k=2), [0, 4 / 7, 3 / 7, 0]),
        (Sampling(temperature=1.0, top_p=0.6), [0, 4 / 7, 3 / 7, 0]),
        (Sampling(temperature=1.0, top_p=0.3), [0, 1, 0, 0]),
        (Sampling(temperature=1.0, min_p=0.45), [0, 4 / 9, 3 / 9, 2 / 9]),
    ):
        np.testing.assert_allclose(sampling.probabilities(logits), wanted, rtol=1e-14)


def test_the_log_probability_of_one_token() -> None:
    logits = (np.random.default_rng(2).standard_normal(5000) * 9).astype(np.float32)
    logits[7] = -np.inf
    exact = log_softmax64(logits)
    for token in (0, int(logits.argmax()), int(np.abs(logits).argmin())):
        found = log_probability(logits, token)
        # The exponentials' errors average; the differences from the largest are rounded once.
        assert abs(found - exact[token]) <= 8 * np.finfo(np.float32).eps * (1 + abs(exact[token]))
    assert log_probability(logits, 7) == -np.inf


def test_draws_follow_the_probabilities() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.3, 0.2]))
    rng = np.random.default_rng(8)
    sampling = Sampling(temperature=1.0)
    counts = np.bincount([sampling.choose(logits, rng) for _ in range(4000)], minlength=4)
    # Five standard deviations of a binomial count.
    wanted = np.exp(logits)
    assert (np.abs(counts / 4000 - wanted) <= 5 * np.sqrt(wanted * (1 - wanted) / 4000)).all()


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.inf])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"num_beams": 2}])
def test_a_callback_that_leaves_nothing(
    value: float, options: dict[str, Any], model: models.LanguageModel
) -> None:
    def spoil(tokens: Any, logits: Any) -> None:
        logits[:] = value

    with pytest.raises(ValueError, match="logits_callback left NaN or infinity, or no token that is"):
        model.generate("a", max_new_tokens=2, logits_callback=spoil, **options)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"num_beams": 2}])
def test_one_infinite_score_of_a_callback(options: dict[str, Any], model: models.LanguageModel) -> None:
    def force(tokens: Any, logits: Any) -> None:
        logits[7] = np.inf

    with pytest.raises(ValueError, match="logits_callback left NaN or infinity"):
        model.generate("a", max_new_tokens=2, logits_callback=force, **options)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("options", [{}, {"temperature": 1.0}, {"num_beams": 2}])
def test_logits_that_are_no_scores(
    value: float, options: dict[str, Any], model: models.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second token on; -inf alone is allowed."""
    logits = model.decoder.logits
    spoilt: Any = slice(3, 4)
    calls = 0

    def spoil(hidden: Any) -> Any:
        nonlocal calls
        calls += 1
        found = logits(hidden).copy()
        if calls > 1:
            found[..., spoilt] = value
        return found

    monkeypatch.setattr(model.decoder, "logits", spoil)
    if value == -np.inf:
        assert len(model.generate("a", max_new_tokens=4, stop_token_ids=[], **options).tokens) == 4
        spoilt, calls = slice(None), 0
    with pytest.raises(ValueError, match=r"^generate: the model's logits hold NaN or infinity$"):
        model.generate("a", max_new_tokens=4, stop_token_ids=[], **options)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-9])
def test_a_temperature_near_0_is_greedy(temperature: float, model: models.LanguageModel) -> None:
    wanted = model.generate(["a", "The fox"], max_new_tokens=9)
    for options in ({}, {"top_k": 3, "top_p": 0.9, "min_p": 0.1}):
        assert (
            model.generate(["a", "The fox"], max_new_tokens=9, temperature=temperature, **options) == wanted
        )


def test_a_penalty_that_overflows() -> None:
    logits = np.array([3e38, 1.0, -2.0], np.float32)
    with pytest.raises(ValueError, match=r"^generate: repetition_penalty 0\.5 makes scores infinite$"):
        Sampling(repetition_penalty=0.5).penalise(logits, [0])
    np.testing.assert_array_equal(Sampling(repetition_penalty=2.0).penalise(logits, [2])[2], -4)
