"""TransformerDecoder step by step over a DecoderPast: what the full pass gives, for each sequence alone."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

import attnlib as al
from attnlib import nn

EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(params=[False, True], ids=["post_norm", "pre_norm"])
def decoder(request: pytest.FixtureRequest) -> nn.TransformerDecoder:
    rng = np.random.default_rng(3)
    layer = nn.TransformerDecoderLayer(16, 4, 24, norm_first=request.param, activation="gelu", rng=rng)
    return nn.TransformerDecoder(layer, 3, norm=nn.LayerNorm(16))


def draw(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("places", [1, 9, 80])
@pytest.mark.parametrize("steps", [(1,) * 30, (20, 1, 1, 3, 1, 1, 1, 1, 1), (30,)])
def test_steps_equal_the_full_pass(
    decoder: nn.TransformerDecoder, places: int, steps: tuple[int, ...], rng: np.random.Generator
) -> None:
    tgt, memory = draw(rng, 3, 30, 16), draw(rng, 3, places, 16)
    lengths = np.array([places, 1, (places + 1) // 2])
    wanted = decoder(tgt, memory, memory_lengths=lengths)
    cache = decoder.begin(memory, lengths, capacity=4)
    found, start = [], 0
    for count in steps:
        found.append(decoder(tgt[:, start : start + count], cache=cache))
        start += count
    assert cache.positions.tolist() == [30] * 3
    # Sums of up to 80 weighted values in another order, through three layers of which each is normalised.
    np.testing.assert_allclose(np.concatenate(found, axis=1), wanted, rtol=0, atol=80 * EPS)


def test_bits_depend_on_neither_batch_padding_nor_threads(
    decoder: nn.TransformerDecoder, rng: np.random.Generator
) -> None:
    tgt, memory = draw(rng, 4, 90, 16), draw(rng, 4, 70, 16)
    lengths = np.array([70, 3, 64, 63])
    cache = decoder.begin(memory, lengths)
    together = np.concatenate([decoder(tgt[:, [i]], cache=cache) for i in range(90)], axis=1)
    with al.num_threads(1):
        for row, length in enumerate(lengths):
            alone = decoder.begin(memory[row : row + 1, :length])
            for i in range(90):
                step = decoder(tgt[row : row + 1, [i]], cache=alone)
                np.testing.assert_array_equal(step[0, 0], together[row, i])


def test_beams_share_their_memory(decoder: nn.TransformerDecoder, rng: np.random.Generator) -> None:
    """Beams are sequences with the same memory; each gets the bits that it has with a memory of its own."""
    memory, tokens = draw(rng, 2, 70, 16), draw(rng, 3, 5, 16)
    shared = decoder.begin(memory, [66, 70])
    apart = decoder.begin(np.stack([memory[0]] * 3), [66] * 3)
    before = shared.memory.nbytes
    shared.reorder([0, 0, 0])
    assert (shared.batch_size, shared.memory.batch_size) == (3, 1)
    assert shared.memory.nbytes == before // 2
    for i in range(5):
        wanted = decoder(tokens[:, [i]], cache=apart)
        np.testing.assert_array_equal(decoder(tokens[:, [i]], cache=shared), wanted)
        for cache in (shared, apart):
            cache.reorder([2, 0, 0])
    assert shared.memory.batch_size == 1


def test_forks_and_joins(decoder: nn.TransformerDecoder, rng: np.random.Generator) -> None:
    memory, tokens = draw(rng, 2, 9, 16), draw(rng, 4, 6, 16)
    cache = decoder.begin(memory, [9, 4])
    decoder(tokens[:2, :2], cache=cache)
    first, second = cache.fork(2)
    first.reorder([1])
    second.reorder([0, 0])
    decoder(tokens[:1, 2:4], cache=first)
    joined = nn.DecoderPast.join([first, second])
    assert joined.positions.tolist() == [4, 2, 2]
    assert (joined.memory.batch_size, second.memory.batch_size) == (3, 1)
    found = decoder(tokens[:3, 4:], cache=joined)
    for row, past in ((0, first), (2, second)):
        if row == 2:
            past.reorder([1])
        np.testing.assert_array_equal(found[row], decoder(tokens[row : row + 1, 4:], cache=past)[0])
    assert cache.positions.tolist() == [2, 2]
    with pytest.raises(ValueError, match="there are no pasts"):
        nn.DecoderPast.join([])


def test_masks_and_bias(decoder: nn.TransformerDecoder, rng: np.random.Generator) -> None:
    tgt, memory = draw(rng, 2, 7, 16), draw(rng, 2, 9, 16)
    mask = rng.random((7, 7)) < 0.6
    mask[:, 0] = True
    memory_mask = rng.random((7, 9)) < 0.6
    memory_mask[:, 0] = True
    bias = nn.RelativePositionBias(8, 4, 8, bidirectional=False, rng=rng)
    wanted = decoder(tgt, memory, mask=mask, memory_mask=memory_mask, bias=bias(7))
    cache = decoder.begin(memory)
    for i in range(7):
        found = decoder(
            tgt[:, [i]],
            mask=mask[[i], : i + 1],
            memory_mask=memory_mask[[i]],
            bias=bias(1, i + 1),
            cache=cache,
        )
        np.testing.assert_allclose(found, wanted[:, [i]], rtol=0, atol=20 * EPS)


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "int8", "int4"])
def test_dtypes(decoder: nn.TransformerDecoder, dtype: str, rng: np.random.Generator) -> None:
    """In steps of two tokens: with so few keys, attention then takes the plan of the full pass."""
    decoder.to(dtype)
    kept = {"float64": np.float64, "bfloat16": ml_dtypes.bfloat16}.get(dtype, np.float32)
    tgt, memory = draw(rng, 2, 6, 16).astype(kept), draw(rng, 2, 9, 16).astype(kept)
    cache = decoder.begin(memory)
    assert cache.target.dtype == cache.memory.dtype == kept
    found = np.concatenate([decoder(tgt[:, i : i + 2], cache=cache) for i in range(0, 6, 2)], axis=1)
    np.testing.assert_array_equal(found, decoder(tgt, memory))


def kept(cache: nn.KVCache) -> list[list[Any]]:
    return [[array.tolist() for array in cache.read(layer)] for layer in range(cache.num_layers)]


def layers_of(decoder: nn.TransformerDecoder, count: int, window: int | None) -> nn.DecoderPast:
    """Make a past with room for `count` tokens only: the next step grows, or evicts."""
    begun = decoder.begin(np.ones((2, 9, 16), np.float32))
    target = nn.KVCache(3, 2, 4, 4, capacity=count, window=window)
    return nn.DecoderPast(target, begun.memory)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize(
    "options",
    [
        {"bias": np.zeros((2, 4, 1, 1))},
        {"bias": np.zeros((2, 4, 1, 1), np.int32)},
        {"mask": np.ones((2, 4, 1, 1), np.float32)},
        {"memory_mask": np.ones((2, 4, 1, 9), np.float32)},
    ],
    ids=["float64 bias", "int32 bias", "float mask", "float memory_mask"],
)
def test_a_refused_step_changes_nothing(
    decoder: nn.TransformerDecoder, options: Any, window: int | None, rng: np.random.Generator
) -> None:
    tokens = draw(rng, 2, 6, 16)
    cache, twin = layers_of(decoder, 5, window), layers_of(decoder, 5, window)
    for past in (cache, twin):
        decoder(tokens[:, :5], cache=past)
    before = kept(cache.target)
    with pytest.raises((TypeError, ValueError)):
        decoder(tokens[:, 5:], cache=cache, **options)
    assert kept(cache.target) == before
    with pytest.raises((TypeError, ValueError)):
        decoder.layers[0](tokens[:, 5:], cache=cache, index=0, **options)
    assert kept(cache.target) == before
    attend = decoder.layers[0].self_attn.attend_to_cache
    with pytest.raises((TypeError, ValueError)):
        attend(tokens[:, 5:], cache.target, 0, append=True, residual=np.ones((2, 1, 15), np.float32))
    assert kept(cache.target) == before
    found, wanted = (decoder(tokens[:, 5:], cache=past) for past in (cache, twin))
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("window", [None, 3])
@pytest.mark.parametrize("call", range(6))
@pytest.mark.parametrize("room", [5, 16])
def test_an_interrupted_step_changes_nothing(
    decoder: nn.TransformerDecoder, window: int | None, call: int, room: int, rng: np.random.Generator
) -> None:
    tokens = draw(rng, 2, 6, 16)
    cache, twin = layers_of(decoder, room, window), layers_of(decoder, room, window)
    for past in (cache, twin):
        decoder(tokens[:, :5], cache=past)
    before = kept(cache.target)
    calls: list[Any] = []

    def interrupt(attention_call: Any) -> None:
        calls.append(attention_call)
        if len(calls) > call:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), al.functional.observe_attention(interrupt):
        decoder(tokens[:, 5:], cache=cache)
    assert kept(cache.target) == before
    found, wanted = (decoder(tokens[:, 5:], cache=past) for past in (cache, twin))
    np.testing.assert_array_equal(found, wanted)
    assert kept(cache.target) == kept(twin.target)


def test_bad_input(decoder: nn.TransformerDecoder, rng: np.random.Generator) -> None:
    memory = draw(rng, 2, 9, 16)
    cache = decoder.begin(memory)
    token = draw(rng, 2, 1, 16)
    for arguments, options, message in (
        ((token[:1],), {}, r"tgt has shape \(1, 1, 16\), the cache needs \(2, S, 16\)"),
        ((token[0],), {}, r"tgt has shape \(1, 16\), the cache needs"),
        ((token[..., :8],), {}, r"tgt has shape \(2, 1, 8\), expected"),
        ((token, memory), {}, "memory, tgt_lengths and memory_lengths do not go with cache"),
        ((token,), {"tgt_lengths": [1, 1]}, "memory, tgt_lengths and memory_lengths do not go with cache"),
        ((token,), {"mask": np.ones((1, 2), bool)}, r"mask has shape \(1, 2\), which does not broadcast"),
        ((token,), {"bias": np.zeros((4, 1, 2))}, r"bias has shape \(4, 1, 2\), which does not broadcast"),
        ((token,), {"memory_mask": np.ones((1, 8), bool)}, r"memory_mask has shape \(1, 8\), which does"),
    ):
        with pytest.raises(ValueError, match=message):
            decoder(*arguments, cache=cache, **options)
    assert cache.positions.tolist() == [0, 0]
    with pytest.raises(TypeError, match="key has dtype float64, a float32 cache takes float32"):
        decoder(token.astype(np.float64), cache=cache)
    with pytest.raises(ValueError, match="memory is missing"):
        decoder(token)
    with pytest.raises(ValueError, match="cache has 3 layers, the decoder 2"):
        nn.TransformerDecoder(nn.TransformerDecoderLayer(16, 4, 24), 2)(token, cache=cache)
    with pytest.raises(ValueError, match=r"memory has shape \(9, 16\), expected \(B, Sm, E\)"):
        decoder.begin(memory[0])
    with pytest.raises(ValueError, match="memory_lengths holds 10"):
        decoder.begin(memory, [10, 1])
    with pytest.raises(ValueError, match="target has 1 layers, memory has 2"):
        nn.DecoderPast(nn.KVCache(1, 2, 4, 8), nn.KVCache(2, 2, 4, 8))
    with pytest.raises(ValueError, match="memory has 3 sequences, expected 1 or the 2 of target"):
        nn.DecoderPast(nn.KVCache(1, 2, 4, 8), nn.KVCache(1, 3, 4, 8))


def test_changes_of_layers_that_have_run(decoder: nn.TransformerDecoder, rng: np.random.Generator) -> None:
    """What layers consist of is collected once; whatever changes them must be seen by the next step."""
    token, memory = draw(rng, 2, 1, 16), draw(rng, 2, 5, 16)

    def draw_bias() -> None:
        decoder.layers[0].linear1.bias.store(draw(rng, 24))

    def load() -> None:
        decoder.load_state_dict({k: v + np.float32(0.1) for k, v in decoder.state_dict().items()})

    before = decoder(token, cache=decoder.begin(memory))
    for change in (
        draw_bias,
        load,
        lambda: setattr(decoder.layers[1], "activation", "relu"),
        lambda: setattr(decoder.layers[2].norm3, "eps", 0.5),
        lambda: decoder.layers.pop(),
    ):
        change()
        after = decoder(token, cache=decoder.begin(memory))
        assert np.any(after != before), change
        # A mask that removes nothing: each layer is called by itself, and nothing is collected.
        everything = np.ones((1, 1, 1, 5), np.bool_)
        np.testing.assert_array_equal(
            after, decoder(token, cache=decoder.begin(memory), memory_mask=everything)
        )
        np.testing.assert_array_equal(after, decoder(token, cache=decoder.begin(memory)))
        before = after
