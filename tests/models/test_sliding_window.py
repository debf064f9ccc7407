"""Models whose layers see a window of the past: the cache stays small, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnlib import models, nn
from attnlib.models.families.llama import LlamaModel, read_config
from attnlib.models.files.config import JsonFile

from . import decoders

CONTEXT = 4096


def load(folder: Path, window: int | None, dtype: str = "float32") -> models.LanguageModel:
    config = {"model_type": "mistral", "sliding_window": window, "max_position_embeddings": CONTEXT}
    model = models.load(decoders.write_folder(folder, **config), dtype=dtype)
    assert isinstance(model, models.LanguageModel)
    return model


def forgetless(model: models.LanguageModel, batch: int, capacity: int) -> nn.KVCache:
    """A cache of the model's that evicts nothing."""
    decoder = model.decoder
    sizes = decoder.num_layers, batch, decoder.num_key_value_heads, decoder.head_dim
    return nn.KVCache(*sizes, capacity=capacity, dtype=decoder.dtype)


@pytest.mark.parametrize("window", [1, 5, 256, 300])
def test_generation_equals_the_full_pass(window: int, tmp_path: Path) -> None:
    model = load(tmp_path / "model", window)
    prompt = np.random.default_rng(0).integers(0, 256, 90).tolist()
    result = model.generate(prompt, max_new_tokens=1500, stop_token_ids=[], return_logprobs=True)
    assert result.logprobs is not None
    logits = model([[*prompt, *result.tokens[:-1]]])[0, len(prompt) - 1 :].astype(np.float64)
    wanted = logits - np.logaddexp.reduce(logits, axis=1)[:, None]
    # Where the two likeliest are as near to each other as rounding, either may be taken.
    best = wanted.max(axis=1)
    np.testing.assert_allclose(result.logprobs, best, rtol=0, atol=1e-4)
    second = np.partition(wanted, -2, axis=1)[:, -2]
    clear = best - second > 1e-3
    assert clear.mean() > 0.9
    np.testing.assert_array_equal(np.array(result.tokens)[clear], wanted.argmax(axis=1)[clear])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("window", [7, 300])
def test_eviction_moves_no_bits(window: int, dtype: str, tmp_path: Path) -> None:
    """Long and short steps, beside a cache that keeps everything."""
    model = load(tmp_path / "model", window, dtype)
    ids = np.random.default_rng(1).integers(0, 256, 2500)
    small, whole = model.decoder.cache(1, CONTEXT), forgetless(model, 1, CONTEXT)
    at = 0
    while at < len(ids):
        step = {0: 700, 700: 40, 740: 300}.get(at, 1 if at % 100 else 3)
        part = ids[None, at : at + step]
        found = model.decoder.hidden(part, small)
        np.testing.assert_array_equal(found, model.decoder.hidden(part, whole))
        at += step
        assert small.positions[0] == min(at, len(ids))
        assert small.lengths[0] >= min(at, window - 1)
    assert small.nbytes < whole.nbytes / 2


def test_memory_stays_flat(tmp_path: Path) -> None:
    model = load(tmp_path / "model", 100)
    cache = model.decoder.cache(2, CONTEXT)
    before = cache.nbytes
    assert before == forgetless(model, 2, 100 + 512).nbytes
    for _ in range(2000):
        model.decoder.hidden(np.ones((2, 1), np.intp), cache)
    assert cache.nbytes == before
    assert cache.positions.tolist() == [2000, 2000]


def test_prompts_of_different_lengths(tmp_path: Path) -> None:
    """What is evicted of one depends on the longest, and still the bits are those of one alone."""
    model = load(tmp_path / "model", 60)
    rng = np.random.default_rng(2)
    prompts = [rng.integers(0, 256, count).tolist() for count in (900, 20, 400)]
    together = model.generate(prompts, max_new_tokens=700, stop_token_ids=[], return_logprobs=True)
    for prompt, result in zip(prompts, together, strict=True):
        alone = model.generate(prompt, max_new_tokens=700, stop_token_ids=[], return_logprobs=True)
        assert alone == result


def test_layers_with_different_windows_keep_everything(tmp_path: Path) -> None:
    config = {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}
    folder = decoders.write_folder(tmp_path / "model", **config)
    model = LlamaModel(read_config(JsonFile(folder / "config.json")))
    assert model.window is None
    assert model.cache(1, 700).window is None


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_the_types_of_layers_say_which_slide(kind: str, tmp_path: Path) -> None:
    config = {"model_type": kind, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 2}
    for types, windows in (
        (["sliding_attention", "full_attention"], (5, None)),
        (["sliding_attention"] * 2, (5, 5)),
        (None, (None, None)),
    ):
        folder = decoders.write_folder(tmp_path / "model", **config, layer_types=types)
        assert read_config(JsonFile(folder / "config.json")).windows == windows
    for wrong in (["full_attention"], "full_attention", ["full_attention", "chunked_attention"], [1, 2]):
        folder = decoders.write_folder(tmp_path / "model", **config, layer_types=wrong)
        with pytest.raises(ValueError, match=r"config\.json: layer_types .*(a list of 2|known are full_)"):
            read_config(JsonFile(folder / "config.json"))


def test_a_cache_with_a_window_is_obeyed(tmp_path: Path) -> None:
    """Whatever it still holds: what older tokens say must not depend on when they are evicted."""
    narrow, wide = load(tmp_path / "narrow", 5), load(tmp_path / "wide", None)
    ids = np.random.default_rng(0).integers(0, 256, (1, 30))
    decoder = wide.decoder
    sizes = decoder.num_layers, 1, decoder.num_key_value_heads, decoder.head_dim
    cache, other = nn.KVCache(*sizes, capacity=64, window=5), forgetless(narrow, 1, 64)
    for place in range(30):
        found = decoder.hidden(ids[:, place : place + 1], cache)
        wanted = narrow.decoder.hidden(ids[:, place : place + 1], other)
        np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="window must be from 1 to 4, got 5"):
        narrow.decoder.hidden(ids, nn.KVCache(*sizes, window=4))
