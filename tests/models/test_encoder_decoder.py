"""T5 and Marian as networks: step by step, in batches, from a past, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib
from attnlib import models, nn
from attnlib.models.families.encoder_decoder import EncoderDecoder
from attnlib.models.generation.decoding import Step, decode
from attnlib.models.generation.sampling import Sampling

from . import encoder_decoders
from .encoder_decoders import VOCAB

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module", params=["t5", "marian"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_decoders.write_folder(tmp_path_factory.mktemp(request.param) / "model", request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> EncoderDecoder:
    loaded = models.load(folder)
    assert isinstance(loaded, models.TextToTextModel)
    return loaded.encoder_decoder


@pytest.fixture
def ids() -> tuple[Any, Any, Any]:
    """Sources of several lengths, and targets."""
    rng = np.random.default_rng(7)
    return rng.integers(3, VOCAB, (4, 80)), np.array([80, 3, 64, 63]), rng.integers(3, VOCAB, (4, 90))


@pytest.mark.parametrize("counts", [[1] * 90, [17, 1, 1, 40, 1, 30], [16, 20, 54]])
def test_step_by_step_equals_the_full_pass(
    model: EncoderDecoder, ids: tuple[Any, Any, Any], counts: list[int]
) -> None:
    sources, lengths, targets = ids
    wanted = model(sources, targets, lengths)
    past = model.begin(model.encode(sources, lengths), lengths, capacity=3)
    steps, start = [], 0
    for count in counts:
        steps.append(model.logits(model.hidden(targets[:, start : start + count], past)))
        start += count
    found = np.concatenate(steps, axis=1)
    # Sums of up to 90 weighted values in another order, through two layers.
    assert np.abs(found - wanted).max() <= 100 * EPS * np.abs(wanted).max()


def test_bits_depend_on_neither_batch_padding_nor_threads(
    model: EncoderDecoder, ids: tuple[Any, Any, Any]
) -> None:
    sources, lengths, targets = ids
    memory = model.encode(sources, lengths)
    past = model.begin(memory, lengths, capacity=90)
    together = np.concatenate([model.hidden(targets[:, [i]], past) for i in range(90)], axis=1)
    full = model(sources, targets, lengths)
    with attnlib.num_threads(1):
        for row, length in enumerate(lengths):
            alone = model.encode(sources[row : row + 1, :length])
            np.testing.assert_array_equal(alone[0], memory[row, :length])
            own = model.begin(alone, capacity=1)
            for i in range(90):
                step = model.hidden(targets[row : row + 1, [i]], own)
                np.testing.assert_array_equal(step[0, 0], together[row, i])
            wanted = model(sources[row : row + 1, :length], targets[row : row + 1])
            np.testing.assert_array_equal(full[row], wanted[0])


def test_sequences_at_different_places_share_a_step(model: EncoderDecoder, ids: tuple[Any, Any, Any]) -> None:
    """T5's bias is that of each sequence's own place."""
    sources, lengths, targets = ids
    pasts = []
    for row, count in enumerate([30, 2, 77, 5]):
        past = model.begin(model.encode(sources[[row], : lengths[row]]), capacity=80)
        for i in range(count):
            model.hidden(targets[[row], i : i + 1], past)
        pasts.append(past)
    joined = nn.DecoderPast.join(pasts)
    for count in (1, 3):
        found = model.hidden(targets[:, 80 : 80 + count], joined)
        for row, past in enumerate(pasts):
            wanted = model.hidden(targets[[row], 80 : 80 + count], past)
            np.testing.assert_array_equal(found[row], wanted[0])


def test_the_memory_is_read_once(
    model: EncoderDecoder, ids: tuple[Any, Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sources, lengths, targets = ids
    calls = []
    project = model.project_memory

    def count(memory: Any, layer: int) -> Any:
        calls.append(layer)
        return project(memory, layer)

    monkeypatch.setattr(model, "project_memory", count)
    past = model.begin(model.encode(sources, lengths), lengths, capacity=8)
    for i in range(5):
        model.hidden(targets[:, [i]], past)
    past.reorder([2, 2, 2])
    model.hidden(targets[:3, [5]], past)
    assert calls == [0, 1]
    assert (past.memory.batch_size, past.memory.lengths.tolist()) == (1, [64])


@pytest.mark.parametrize("places", [80, 9])
@pytest.mark.parametrize("beams", [2, 16, 17])
def test_beams_have_the_bits_of_sequences(
    model: EncoderDecoder, ids: tuple[Any, Any, Any], beams: int, places: int
) -> None:
    """A shared memory is read once for all of them, in the same plan."""
    memory = model.encode(ids[0][:1, :places])
    shared = model.begin(memory, capacity=9)
    shared.reorder([0] * beams)
    apart = model.begin(np.concatenate([memory] * beams), capacity=9)
    assert (shared.memory.batch_size, apart.memory.batch_size) == (1, beams)
    rng = np.random.default_rng(9)
    for count in (1, 3, 1):
        tokens = rng.integers(3, VOCAB, (beams, count))
        np.testing.assert_array_equal(model.hidden(tokens, shared), model.hidden(tokens, apart))


def generate(model: EncoderDecoder, prompts: list[list[int]], past: nn.DecoderPast) -> list[list[int]]:
    tokens: list[list[int]] = [[] for _ in prompts]

    def finished(step: Step) -> bool:
        tokens[step.row].append(step.token)
        return False

    for _ in decode(model, prompts, past=past, max_new_tokens=9, sampling=Sampling(), finished=finished):
        pass
    return tokens


def test_prompts_of_different_lengths(model: EncoderDecoder, ids: tuple[Any, Any, Any]) -> None:
    """As Whisper's, of which some have a longer beginning."""
    sources, lengths, targets = ids
    prompts = [targets[row, :count].tolist() for row, count in enumerate([3, 20, 1, 3])]
    found = generate(model, prompts, model.begin(model.encode(sources, lengths), lengths, capacity=30))
    for row, prompt in enumerate(prompts):
        memory = model.encode(sources[[row], : lengths[row]])
        assert generate(model, [prompt], model.begin(memory, capacity=30)) == [found[row]]
        sequence = [*prompt, *found[row]]
        logits = model(sources[[row], : lengths[row]], [sequence[:-1]])[0, len(prompt) - 1 :]
        assert logits.argmax(axis=-1).tolist() == found[row]


def test_decoding_goes_on_from_a_past(model: EncoderDecoder, ids: tuple[Any, Any, Any]) -> None:
    sources, _, targets = ids
    memory = model.encode(sources[:1])
    whole = generate(model, [targets[0, :6].tolist()], model.begin(memory, capacity=30))
    past = model.begin(memory, capacity=30)
    model.hidden(targets[:1, :4], past)
    assert generate(model, [targets[0, :6].tolist()], past) == whole
    with pytest.raises(ValueError, match=r"past holds \[14\] tokens of prompts of \[6\]"):
        generate(model, [targets[0, :6].tolist()], past)


@pytest.mark.parametrize(
    ("dtype", "bound"), [("bfloat16", 2 * 30**0.5 * 2**-9), ("int8", 4 * 0.0098), ("int4", 4 * 0.074)]
)
def test_other_dtypes_are_near(
    model: EncoderDecoder, folder: Path, ids: tuple[Any, Any, Any], dtype: str, bound: float
) -> None:
    """Errors against float32, relative to the logits' norm.

    bfloat16 rounds some 30 times on the way, each time by at most 2**-9, with random signs; twice that. int8
    and int4 err by 0.98 and 7.4 % in a product (docs/performance.md), of which some 16 follow one another
    with random signs: four times as much.
    """
    sources, lengths, targets = (array[:, :40] if array.ndim == 2 else array // 2 for array in ids)
    wanted = model(sources, targets, lengths)
    other = models.load(folder, dtype=dtype)
    assert isinstance(other, models.TextToTextModel)
    found = other(sources, targets, lengths)
    assert found.dtype == np.float32
    assert np.linalg.norm(found - wanted) <= bound * np.linalg.norm(wanted)
    past = other.encoder_decoder.begin(other.encoder_decoder.encode(sources), capacity=4)
    assert past.target.dtype == past.memory.dtype == other.encoder_decoder.dtype
    if dtype == "bfloat16":
        with pytest.raises(
            ValueError, match="past is of another model: its layers, heads, head size and dtype"
        ):
            model.hidden(targets[:, :1], past)


def test_bad_input(model: EncoderDecoder, ids: tuple[Any, Any, Any]) -> None:
    sources, lengths, targets = ids
    name = type(model).__name__
    past = model.begin(model.encode(sources), capacity=2)
    with pytest.raises(ValueError, match=f"{name}: ids are of 3 sequences, past of 4"):
        model.hidden(targets[:3, :1], past)
    with pytest.raises(ValueError, match=f"{name}: ids are of 3 sequences, past of 4"):
        model(sources, targets[:3])
    cache = nn.KVCache(2, 4, 7, 5)
    with pytest.raises(ValueError, match=f"{name}: past is of another model"):
        model.hidden(targets[:, :1], nn.DecoderPast(cache, cache))
    for arguments, message in (
        (([],), f"{name}.encode: a prompt is empty"),
        ((np.zeros((0, 3), int),), f"{name}.encode: a prompt is empty"),
        ((sources[0],), rf"{name}.encode: inputs must have shape \(B, Sm\), got \(80,\)"),
        (([[VOCAB]],), f"{name}.encode: token id {VOCAB} is unknown; there are {VOCAB}"),
        (([[-1]],), f"{name}.encode: token id -1 is unknown"),
        ((sources, lengths[:2]), rf"{name}.encode: lengths has shape \(2,\), expected \(4,\)"),
        ((sources, [81, 1, 1, 1]), f"{name}.encode: lengths must be from 1 to 80"),
        ((sources, [0, 1, 1, 1]), f"{name}.encode: lengths must be from 1 to 80"),
    ):
        with pytest.raises(ValueError, match=message):
            model.encode(*arguments)
    with pytest.raises(TypeError, match=f"{name}.encode: token ids must be integers, got float64"):
        model.encode([[1.0]])
    with pytest.raises(TypeError, match=f"{name}.encode: lengths must be integers, got float64"):
        model.encode(sources, [1.0] * 4)
    with pytest.raises(ValueError, match=rf"{name}.begin: memory has shape \(4, 3\), expected \(B, Sm, 32\)"):
        model.begin(np.zeros((4, 3), np.float32), capacity=1)
    with pytest.raises(ValueError, match=f"{name}.begin: memory_lengths must be from 1 to 80"):
        model.begin(model.encode(sources), [0, 1, 2, 3], capacity=1)
    with pytest.raises(ValueError, match=f"generate: {name} needs past"):
        generate(model, [[0]], None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="past holds 4 sequences for 1 prompts"):
        generate(model, [[0]], past)


def test_marian_positions_grow_with_the_texts(tmp_path: Path) -> None:
    """The configuration may promise millions; a longer table has the same rows."""
    folder = encoder_decoders.write_folder(tmp_path / "model", "marian", max_position_embeddings=1 << 20)
    network: Any = models.load(folder).model  # type: ignore[union-attr]
    ids = np.random.default_rng(0).integers(0, VOCAB, (1, 1100))
    short = network.encode(ids[:, :9])
    assert len(network._table) == 1024
    network.encode(ids)
    assert 1100 <= len(network._table) < 5000
    np.testing.assert_array_equal(network.encode(ids[:, :9]), short)
