"""Text to text: batches, streams, beams, a checkpoint's own settings and rules, and bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib
from attnlib import models, nn

from . import encoder_decoders
from .encoder_decoders import VOCAB, WORDS

TEXTS = ["bak del dos", "bim", " ".join(WORDS[3:80]), "but dat dit dut kat"]


@pytest.fixture(scope="module", params=["t5", "marian"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> models.TextToTextModel:
    return load(tmp_path_factory.mktemp(request.param), request.param)


def load(place: Path, family: str = "marian", **options: Any) -> models.TextToTextModel:
    model = models.load(encoder_decoders.write_folder(place / "model", family, **options))
    assert isinstance(model, models.TextToTextModel)
    return model


def test_greedy_takes_the_likeliest(model: models.TextToTextModel) -> None:
    for text in TEXTS:
        result = model.generate(text, max_new_tokens=15, stop_token_ids=[], return_logprobs=True)
        targets = [model.settings.start_id, *result.tokens]
        logits = model([model.encode(text)], [targets])[0, :-1].astype(np.float64)
        assert logits.argmax(axis=1).tolist() == result.tokens
        best = logits.max(axis=1) - np.logaddexp.reduce(logits, axis=1)
        np.testing.assert_allclose(result.logprobs, best, atol=1e-4)
        assert result.text == " ".join(WORDS[token] for token in result.tokens if token > 2)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}, {"num_beams": 3}])
def test_bits_do_not_depend_on_the_batch_nor_threads(
    model: models.TextToTextModel, options: dict[str, Any]
) -> None:
    settings: dict[str, Any] = {
        "max_new_tokens": 30,
        "return_logprobs": "num_beams" not in options,
        **options,
    }
    together = model.generate(TEXTS, **settings)
    with attnlib.num_threads(1):
        assert model.generate(TEXTS, **settings) == together
    assert model.generate(TEXTS[:2], **settings) == together[:2]
    if "seed" not in options:
        assert [model.generate(text, **settings) for text in TEXTS] == together


def test_a_stream_is_the_text(model: models.TextToTextModel) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 30, "stop_token_ids": [], "temperature": 1.0, "seed": 4}
    text = model.generate(TEXTS[0], **settings).text
    pieces = list(model.stream(TEXTS[0], **settings))
    assert "".join(pieces) == text
    assert len(pieces) > 3
    stop = text.split()[4]
    cut = model.generate(TEXTS[0], stop=stop, **settings)
    assert cut.text == text[: text.index(stop)]
    assert cut.finish_reason == "stop"
    assert "".join(model.stream(TEXTS[0], stop=stop, **settings)) == cut.text
    with pytest.raises(ValueError, match="past is for language models"):
        model.stream(TEXTS[0], past=nn.KVCache(2, 1, 4, 8))


def test_beams_find_what_is_likelier(model: models.TextToTextModel) -> None:
    for text in TEXTS:
        options: dict[str, Any] = {"max_new_tokens": 8, "stop_token_ids": []}
        greedy = model.generate(text, return_logprobs=True, **options)
        beams = model.generate(text, num_beams=16, length_penalty=0.0, **options)
        assert greedy.logprobs is not None
        assert beams.score is not None
        assert beams.score >= sum(greedy.logprobs) - 1e-3
        targets = [model.settings.start_id, *beams.tokens]
        logits = model([model.encode(text)], [targets])[0, :-1].astype(np.float64)
        total = sum(row[t] - np.logaddexp.reduce(row) for row, t in zip(logits, beams.tokens, strict=True))
        assert beams.score == pytest.approx(total, abs=1e-3)


def test_rules(tmp_path: Path) -> None:
    """What generation_config.json forbids and demands, next to a callback of the caller."""
    free = load(tmp_path).generate(TEXTS, max_new_tokens=9, stop_token_ids=[], return_logprobs=True)
    never = sorted({result.tokens[1] for result in free})
    rules = {
        "bad_words_ids": [[token] for token in never[:1]],
        "suppress_tokens": never[1:],
        "forced_bos_token_id": 20,
        "forced_eos_token_id": 1,
        "begin_suppress_tokens": [30, 31],
        "min_length": 5,
        "max_length": 8,
        "decoder_start_token_id": 0,
        "eos_token_id": [1, 40],
    }
    model = load(tmp_path, generation=rules)
    seen: list[int] = []

    def encourage(tokens: Any, logits: Any) -> None:
        seen.append(len(tokens))
        logits[[1, 40]] += 100
        if len(tokens) == 2:
            logits[30] += 200

    for options in ({}, {"num_beams": 2}):
        seen.clear()
        for result in model.generate(TEXTS, logits_callback=encourage, **options):
            assert result.tokens[0] == 20
            assert not {*result.tokens} & {*never}
            assert result.tokens[1] not in (1, 30, 31, 40)
            # Five tokens come before the end, the first of which is the decoder's own.
            assert len(result.tokens) == 5
            assert result.tokens[-1] in (1, 40)
            assert result.finish_reason == "stop"
        assert max(seen) == 5
    assert [result.tokens[-1] for result in model.generate(TEXTS)] == [1] * 4
    assert max(len(result.tokens) for result in model.generate(TEXTS)) <= 7
    assert [len(result.tokens) for result in model.generate(TEXTS, max_new_tokens=5)] == [5] * 4


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}, {"temperature": 1.0}])
def test_rules_that_leave_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    """They are blamed for it, not a callback that nobody gave."""
    model = load(tmp_path, suppress_tokens=[*range(VOCAB)])
    with pytest.raises(
        ValueError, match=r"^generate: the checkpoint's rules leave no token that is possible$"
    ):
        model.generate("bak", **options)


def test_settings_are_defaults(tmp_path: Path) -> None:
    free = load(tmp_path, "t5")
    own = {"num_beams": 3, "length_penalty": 2.0, "repetition_penalty": 1.5, "max_new_tokens": 7}
    model = load(tmp_path, "t5", generation={**own, "no_repeat_ngram_size": 0, "do_sample": False})
    assert model.generate(TEXTS) == free.generate(TEXTS, **own)
    others: dict[str, Any] = {"num_beams": 1, "repetition_penalty": 1.0, "max_new_tokens": 9}
    assert model.generate(TEXTS, **others) == free.generate(TEXTS, **others)
    with pytest.raises(ValueError, match="the checkpoint's num_beams is 3, so give num_beams=1"):
        model.generate(TEXTS, temperature=1.0)
    # A configuration of old has them beside the sizes.
    (tmp_path / "old").mkdir()
    assert load(tmp_path / "old", "t5", **own).settings == model.settings


def test_sources_are_token_ids_without_a_tokenizer(tmp_path: Path) -> None:
    wanted = load(tmp_path).generate(TEXTS[0], max_new_tokens=6).tokens
    ids = load(tmp_path).encode(TEXTS[0])
    (tmp_path / "model" / "tokenizer.json").unlink()
    model = models.load(tmp_path / "model")
    assert isinstance(model, models.TextToTextModel)
    assert model.generate(ids, max_new_tokens=6).tokens == wanted
    assert model.generate(ids, max_new_tokens=6).text == ""
    with pytest.raises(ValueError, match="give prompts as token ids"):
        model.generate(TEXTS[0])


def test_no_texts(model: models.TextToTextModel) -> None:
    assert model.generate([]) == []
    assert model.generate([], num_beams=2) == []


def test_the_context_ends_a_text(tmp_path: Path) -> None:
    model = load(tmp_path, max_position_embeddings=12)
    result = model.generate("bak del", max_new_tokens=50, stop_token_ids=[])
    assert (len(result.tokens), result.finish_reason) == (11, "length")
    with pytest.raises(ValueError, match="generate: a source has 13 tokens, the encoder takes 12"):
        model.generate(["bak", " ".join(WORDS[3:15])])
    with pytest.raises(ValueError, match="ids has 13 tokens, the context is 12"):
        model([[3]], [[3] * 13])


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ([[]], {}, "a prompt is empty"),
        ([3, VOCAB], {}, f"token id {VOCAB} is unknown; there are {VOCAB}"),
        ([[3], [-1]], {}, "token id -1 is unknown"),
        ("bak", {"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ("bak", {"num_beams": 0}, "num_beams must be at least 1"),
        ("bak", {"num_beams": 2, "return_logprobs": True}, "num_beams takes no temperature"),
        ("bak", {"stop": [""]}, "stop must hold texts that are not empty"),
        ("bak", {"stop_token_ids": [999]}, "stop_token_ids holds 999"),
        ("\ud800", {}, "a text is not valid Unicode"),
    ],
)
def test_bad_input(
    model: models.TextToTextModel, prompts: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        model.generate(prompts, **options)


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("t5", {"feed_forward_proj": "gated-tanh"}, "dense_act_fn 'tanh' is not supported"),
        ("t5", {"relative_attention_num_buckets": 7}, "relative_attention_num_buckets must be even, found 7"),
        ("t5", {"relative_attention_max_distance": 4}, "relative_attention_max_distance must be from 5"),
        ("t5", {"d_kv": 13}, r"SelfAttention.q.weight with .* is \(108, 32\), the configuration wants \(117"),
        ("t5", {"feed_forward_proj": "relu"}, "encoder.block.0.layer.1.DenseReluDense.wi.weight is missing"),
        ("t5", {"num_decoder_layers": 3}, "decoder.block.2.layer.0.layer_norm.weight is missing"),
        ("t5", {"num_layers": 1}, r"encoder\.block\.1\.\S+ is there, but the number of layers"),
        ("t5", {"num_decoder_layers": 1}, r"decoder\.block\.1\.\S+ is there, but the number of layers"),
        (
            "marian",
            {"encoder_layers": 1},
            r"model\.encoder\.layers\.1\.\S+ is there, but the number of layers",
        ),
        ("t5", {"vocab_size": 90}, r"shared.weight is \(83, 32\), the configuration wants \(90, 32\)"),
        ("t5", {"decoder_start_token_id": None}, "decoder_start_token_id is missing"),
        ("t5", {"decoder_start_token_id": 83}, "decoder_start_token_id must be from 0 to 82, found 83"),
        ("marian", {"normalize_before": True}, "normalize_before is true, which is not supported"),
        ("marian", {"static_position_embeddings": False}, "static_position_embeddings is false, which"),
        ("marian", {"decoder_attention_heads": 5}, "decoder_attention_heads 5 does not divide d_model 32"),
        ("marian", {"activation_function": "mish"}, "activation_function 'mish' is not supported"),
        ("marian", {"tie_word_embeddings": False}, "lm_head.weight is missing"),
        (
            "marian",
            {"share_encoder_decoder_embeddings": False},
            "model.encoder.embed_tokens.weight is missing",
        ),
        ("marian", {"encoder_ffn_dim": 49}, r"fc1.weight is \(48, 32\), the configuration wants \(49, 32\)"),
        ("marian", {"no_repeat_ngram_size": 3}, "no_repeat_ngram_size is 3, which is not supported"),
        ("marian", {"stop_strings": ["bak"]}, r"stop_strings is \['bak'\], which is not supported"),
        (
            "marian",
            {"forced_decoder_ids": [[1, 5]]},
            r"forced_decoder_ids is \[\[1, 5\]\], which is not supp",
        ),
        (
            "t5",
            {"repetition_penalty": 0.0},
            r"config\.json: repetition_penalty must be from 1e-06 to 1000000",
        ),
        ("marian", {"bad_words_ids": [[1, 2]]}, "bad_words_ids holds a word of several tokens"),
        ("marian", {"bad_words_ids": [1]}, "bad_words_ids must be a list of lists of tokens"),
        ("marian", {"suppress_tokens": [83]}, "suppress_tokens holds 83, but there are 83 tokens"),
        ("marian", {"forced_bos_token_id": "x"}, "forced_bos_token_id must be an integer or a list of them"),
        ("marian", {"early_stopping": "never"}, "early_stopping must be true or false, found 'never'"),
        ("marian", {"eos_token_id": 2.5}, "eos_token_id must be an integer or a list of them, found 2.5"),
    ],
)
def test_bad_folders(family: str, change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        load(tmp_path, family, **change)
