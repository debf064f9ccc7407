"""Generation on small random models: choices, batches, streams, stops and bad input."""

from __future__ import annotations

import inspect
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib
from attnlib import cli, models, nn
from attnlib.models.files.checkpoint import open_safetensors
from attnlib.models.generation.decoding import proceed
from attnlib.models.generation.options import GenerationOptions, StreamOptions
from attnlib.nn import kv_layer

from . import decoders
from .decoders import save_file

PROMPTS = [
    "a",
    "The quick brown fox jumps over the lazy dog, twice.",
    "The quick brown fox jumps, then sleeps a while.",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return decoders.write_folder(tmp_path_factory.mktemp("llama") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> models.LanguageModel:
    model = models.load(folder)
    assert isinstance(model, models.LanguageModel)
    return model


def test_step_by_step_equals_the_full_pass(model: models.LanguageModel) -> None:
    ids = np.random.default_rng(2).integers(0, 256, 100)
    wanted = model([ids])[0]
    cache = model.decoder.cache(1, 100)
    steps = [model.decoder.hidden(np.array([[token]]), cache)[0, 0] for token in ids]
    found = model.decoder.logits(np.stack(steps))
    # Sums of up to 100 weighted values in another order, through two layers.
    assert np.abs(found - wanted).max() <= 100 * np.finfo(np.float32).eps * np.abs(wanted).max()


def test_the_typed_options_are_those_of_generate() -> None:
    for method, options, own in (
        ("generate", GenerationOptions, "prompts"),
        ("stream", StreamOptions, "past"),
    ):
        parameters = {*inspect.signature(getattr(models.LanguageModel, method)).parameters}
        assert {*options.__annotations__} == parameters - {"self", "prompt", own}


def test_greedy_takes_the_likeliest(model: models.LanguageModel) -> None:
    result = model.generate("The quick", max_new_tokens=20, stop_token_ids=[], return_logprobs=True)
    ids = model.encode("The quick")
    for token, logprob in zip(result.tokens, result.logprobs, strict=True):
        logits = model([ids])[0, -1].astype(np.float64)
        assert token == logits.argmax()
        assert logprob == pytest.approx(logits.max() - np.logaddexp.reduce(logits), abs=1e-4)
        ids.append(token)


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
def test_bits_do_not_depend_on_the_batch_nor_threads(
    model: models.LanguageModel, options: dict[str, Any]
) -> None:
    """Prompts of different lengths, two of them with a beginning that is computed once."""
    settings: dict[str, Any] = {"max_new_tokens": 40, "return_logprobs": True, **options}
    together = model.generate(PROMPTS, **settings)
    with attnlib.num_threads(1):
        assert model.generate(PROMPTS, **settings) == together
    assert model.generate(PROMPTS[:1], **settings) == together[:1]
    if not options:
        assert [model.generate(prompt, **settings) for prompt in PROMPTS] == together
        assert model.generate(PROMPTS[1:], **settings) == together[1:]


def test_a_shared_beginning_is_computed_once(
    model: models.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    hidden = model.decoder.hidden

    def count(ids: Any, cache: Any) -> Any:
        seen.append(ids.size)
        return hidden(ids, cache)

    monkeypatch.setattr(model.decoder, "hidden", count)
    prompts = ["x" * 50 + "a" * 20, "x" * 50 + "b" * 30, "x" * 50 + "c" * 17]
    model.generate(prompts, max_new_tokens=1)
    assert seen == [50, 20, 30, 17]


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "seed": 11, "top_k": 50}])
def test_a_stream_is_the_text(model: models.LanguageModel, options: dict[str, Any]) -> None:
    settings: dict[str, Any] = {"max_new_tokens": 60, **options}
    text = model.generate("Hello", **settings).text
    pieces = list(model.stream("Hello", **settings))
    assert "".join(pieces) == text
    assert len(pieces) > 3
    stop = text[10:13]
    cut = model.generate("Hello", stop=stop, **settings)
    assert cut.text == text[: text.index(stop)]
    assert cut.finish_reason == "stop"
    assert "".join(model.stream("Hello", stop=stop, **settings)) == cut.text


def test_prompts_of_different_lengths_go_on_from_a_past(model: models.LanguageModel) -> None:
    """Those that lack equally many tokens are run together, and all come back in their places."""
    rng = np.random.default_rng(12)
    prompts = [rng.integers(0, 256, length).tolist() for length in (30, 9, 12, 40)]
    held = [10, 6, 9, 39]
    parts = []
    for prompt, count in zip(prompts, held, strict=True):
        part = model.decoder.cache(1, 64)
        model.decoder.hidden(np.array([prompt[:count]]), part)
        parts.append(part.fork(1)[0])
    past, logits = proceed(model.decoder, prompts, nn.KVCache.join(parts))
    assert past.positions.tolist() == [30, 9, 12, 40]
    for row, (prompt, part) in enumerate(zip(prompts, parts, strict=True)):
        wanted = model.decoder.hidden(np.array([prompt[held[row] :]]), part)[:, -1]
        np.testing.assert_array_equal(logits[row], model.decoder.logits(wanted)[0])


def test_stop_tokens(model: models.LanguageModel) -> None:
    free = model.generate("Hello", max_new_tokens=30, stop_token_ids=[])
    token = free.tokens[7]
    cut = model.generate("Hello", max_new_tokens=30, stop_token_ids=[token])
    assert cut.tokens == free.tokens[: free.tokens.index(token) + 1]
    assert cut.finish_reason == "stop"
    assert free.finish_reason == "length"


def test_the_context_ends_a_text(model: models.LanguageModel) -> None:
    result = model.generate([5] * 120, max_new_tokens=50, stop_token_ids=[])
    assert len(result.tokens) == 8
    assert result.finish_reason == "length"


def test_beams_find_what_is_likelier(model: models.LanguageModel) -> None:
    for prompt in PROMPTS:
        greedy = model.generate(prompt, max_new_tokens=12, stop_token_ids=[], return_logprobs=True)
        beams = model.generate(prompt, max_new_tokens=12, stop_token_ids=[], num_beams=16, length_penalty=0.0)
        assert beams.score >= sum(greedy.logprobs) - 1e-3
        ids = model.encode(prompt)
        logits = model([ids + beams.tokens])[0, len(ids) - 1 : -1].astype(np.float64)
        total = sum(row[t] - np.logaddexp.reduce(row) for row, t in zip(logits, beams.tokens, strict=True))
        assert beams.score == pytest.approx(total, abs=1e-3)


def test_beams_that_stay_in_order_copy_nothing(
    model: models.LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders, copies = [], []
    reorder, gathered = nn.KVCache.reorder, kv_layer.gathered_pair

    def asked(cache: nn.KVCache, order: list[int]) -> None:
        orders.append((order, cache.batch_size))
        reorder(cache, order)

    def copied(pair: Any, rows: Any) -> Any:
        copies.append(rows.tolist())
        return gathered(pair, rows)

    monkeypatch.setattr(nn.KVCache, "reorder", asked)
    monkeypatch.setattr(kv_layer, "gathered_pair", copied)
    model.generate("Hello", max_new_tokens=40, stop_token_ids=[], num_beams=2)
    others = [order for order, batch in orders if order != [*range(batch)]]
    assert 0 < len(others) < len(orders)
    assert copies == [order for order in others for _ in range(model.decoder.num_layers)]


def test_a_callback_rules(model: models.LanguageModel) -> None:
    seen: list[int] = []

    def only(tokens: Any, logits: Any) -> None:
        seen.append(len(tokens))
        logits[:] = -np.inf
        logits[65 + len(seen)] = 0

    result = model.generate([1, 2], max_new_tokens=3, logits_callback=only, return_logprobs=True)
    assert result.tokens == [66, 67, 68]
    assert seen == [2, 3, 4]
    assert np.isfinite(result.logprobs).all()
    with pytest.raises(ValueError, match=r"logits_callback returned shape \(3,\)"):
        model.generate([1, 2], logits_callback=lambda tokens, logits: np.zeros(3))


def test_a_tensor_is_that_of_the_shard_that_the_index_names(tmp_path: Path) -> None:
    save_file({"w": np.ones((2, 3), np.float32), "p": np.ones(4, np.int64)}, tmp_path / "a.safetensors")
    save_file({"w": np.ones((5, 5), np.float32), "p": np.ones(4, np.float32)}, tmp_path / "b.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "a.safetensors", "p": "a.safetensors"}}))
    checkpoint = open_safetensors(tmp_path)
    assert checkpoint.shapes == {"w": (2, 3)}
    assert checkpoint.tensor("w").shape == (2, 3)


def test_shards_are_one_model(model: models.LanguageModel, tmp_path: Path) -> None:
    sharded = models.load(decoders.write_folder(tmp_path / "shards", shards=3))
    np.testing.assert_array_equal(sharded([[1, 2, 3]]), model([[1, 2, 3]]))
    (tmp_path / "shards" / "model-1.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-1\.safetensors: there is no such file"):
        models.load(tmp_path / "shards")


@pytest.mark.parametrize(
    ("dtype", "bound"), [("bfloat16", 2 * 20**0.5 * 2**-9), ("int8", 3 * 0.0098), ("int4", 4 * 0.074)]
)
def test_other_dtypes_are_near(model: models.LanguageModel, folder: Path, dtype: str, bound: float) -> None:
    """Errors against float32, relative to the logits' norm.

    bfloat16 rounds some 20 times on the way, each time by at most 2**-9, with random signs; twice that. int8
    and int4 err by 0.98 and 7.4 % in a product (docs/performance.md), of which 9 follow one another with
    random signs: three times as much, and four times for int4, whose errors are no longer small.
    """
    ids = [list(range(60))]
    wanted = model(ids)
    found = models.load(folder, dtype=dtype)(ids)
    assert np.linalg.norm(found - wanted) <= bound * np.linalg.norm(wanted)


def test_an_unknown_dtype(folder: Path) -> None:
    with pytest.raises(ValueError, match="dtype must be one of float32, bfloat16, int8, int4, got 'float64'"):
        models.load(folder, dtype="float64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gemma"}, "model_type 'gemma' is not supported; known are .*llama.*gpt2"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type 'yarn' is not supported"),
        ({"num_key_value_heads": 3}, "3 key/value heads do not divide 4"),
        (
            {"intermediate_size": 65},
            "mlp.gate_proj.weight with .* is .128, 32., the configuration wants .130",
        ),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight is missing"),
        (
            {"num_hidden_layers": 1},
            r"model\.layers\.1\.\S+ is there, but the number of layers in the configuration is 1$",
        ),
    ],
)
def test_bad_folders(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        models.load(decoders.write_folder(tmp_path / "bad", **change))


@pytest.mark.parametrize("found", ['"</s>"', "2.5", "true", "[1, null]"])
def test_bad_end_ids(found: str, tmp_path: Path) -> None:
    folder = decoders.write_folder(tmp_path / "model")
    (folder / "generation_config.json").write_text(f'{{"eos_token_id": {found}}}')
    with pytest.raises(ValueError, match=r"generation_config\.json: eos_token_id must be an integer or"):
        models.load(folder)
    (folder / "generation_config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"generation_config\.json: expected a JSON object"):
        models.load(folder)


@pytest.mark.parametrize(
    "template",
    ["{{ 1 / 0 }}", "{{ 'a' + 1 }}", "{{ messages[9].x.y }}", "{% if %}", "{{ raise_exception('no') }}"],
)
def test_bad_templates(template: str, tmp_path: Path) -> None:
    pytest.importorskip("jinja2")
    folder = decoders.write_folder(tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template)
    model = models.load(folder)
    assert isinstance(model, models.LanguageModel)
    assert model.tokenizer is not None
    with pytest.raises(ValueError, match=r"^chat: the chat template failed: "):
        model.tokenizer.chat([{"role": "user", "content": "x"}])


def test_the_command(model: models.LanguageModel, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "--model", str(folder), "--max-new-tokens", "12", "Hello"]
    wanted = model.generate("Hello", max_new_tokens=12)
    assert cli.main(command) == 0
    assert capsys.readouterr().out == wanted.text + "\n"
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tokens"] == wanted.tokens
    assert cli.main([*command, "--chat"]) == 2
    assert "the model has no chat template" in capsys.readouterr().err


def test_the_command_on_standard_input(
    model: models.LanguageModel,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is UTF-8, whatever the locale says, and an error names the line."""
    command = ["generate", "--model", str(folder), "--max-new-tokens", "3", "-"]
    for given, text in ((b"Stra\xc3\x9fe\r\nja\n", "Straße\nja\n"), (b"\xc3\x9f", "ß"), (b"a\n\n", "a\n\n")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="ascii"))
        assert cli.main(command) == 0
        assert capsys.readouterr().out == model.generate(text, max_new_tokens=3).text + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"fine\nna\xefve\n")))
    assert cli.main(command) == 2
    assert "standard input: line 2 is not valid UTF-8" in capsys.readouterr().err
