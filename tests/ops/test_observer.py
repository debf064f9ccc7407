"""An observer sees every call of attention with all that its weights depend on, and changes nothing."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import normal

import attnlib as al
from attnlib.functional import AttentionCall, cached_self_attention, observe_attention


def weights(call: AttentionCall) -> Any:
    value = np.zeros((*call.key.shape[:-1], 1), call.key.dtype)
    return oracle.attention(call.query, call.key, value, **call.options).weights


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"causal": True, "window": (2, None), "query_offset": 1},
        {"scale": 0.1, "softcap": 2.0, "alibi_slopes": [0.5, 0.25], "sinks": [0.1, 0.2]},
        {"mask": np.tri(5, 7, dtype=bool), "key_lengths": [6, 3]},
        {"bias": np.linspace(-1, 1, 35, dtype=np.float32).reshape(5, 7)},
    ],
)
def test_all_that_weights_depend_on(options: dict[str, Any], rng: np.random.Generator) -> None:
    query, key = normal(rng, (2, 2, 5, 8), "float32"), normal(rng, (2, 1, 7, 8), "float32")
    calls: list[AttentionCall] = []
    expected, wanted = al.attention(query, key, key, return_weights=True, **options)
    with observe_attention(calls.append):
        found = al.attention(query, key, key, **options)
    again = al.attention(query, key, key, **options)
    assert len(calls) == 1
    assert found.tobytes() == again.tobytes()
    np.testing.assert_allclose(weights(calls[0]), wanted, atol=1e-6)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_packed_sequences_are_calls_of_their_own(rng: np.random.Generator) -> None:
    tokens = normal(rng, (9, 2, 8), "float32")
    others = normal(rng, (7, 1, 8), "float32")
    options: dict[str, Any] = {"causal": True, "window": (3, None), "scale": 0.3}
    for keys, offsets in ((tokens[:, :1], None), (others, [0, 3, 3, 7])):
        calls: list[AttentionCall] = []
        with observe_attention(calls.append):
            al.attention_varlen(tokens, keys, keys, [0, 4, 7, 9], offsets, **options)
        exact = oracle.attention_varlen(
            tokens, keys, keys, np.array([0, 4, 7, 9]), offsets and np.array(offsets), **options
        )
        assert len(calls) == len(exact) == 3
        for call, wanted in zip(calls, exact, strict=True):
            np.testing.assert_allclose(weights(call), wanted.weights, atol=1e-12)


def test_it_sees_inputs_before_an_output_over_them(rng: np.random.Generator) -> None:
    query = normal(rng, (3, 4), "float32")
    before = query.copy()
    seen: list[Any] = []
    with observe_attention(lambda call: seen.append(call.query.copy())):
        al.attention(query, query, query, out=query)
    np.testing.assert_array_equal(seen[0], before)
    assert (query != before).any()


def test_blocks(rng: np.random.Generator) -> None:
    """Nested ones, the observer's own attention, other threads, and the end by an error."""
    query = normal(rng, (3, 4), "float32")
    outer: list[AttentionCall] = []
    inner: list[AttentionCall] = []

    def attend() -> None:
        al.attention(query, query, query)

    def observer(call: AttentionCall) -> None:
        attend()
        inner.append(call)

    with observe_attention(outer.append):
        attend()
        with observe_attention(observer):
            attend()
        thread = threading.Thread(target=attend)
        thread.start()
        thread.join()
        attend()
    attend()
    assert (len(outer), len(inner)) == (2, 1)

    def failing(call: AttentionCall) -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"), observe_attention(failing):
        attend()
    attend()


@pytest.mark.parametrize("cu_seqlens", [[0, 2, 9], [[0, 3]], [0.0, 3.0], [0, 3, 1], [], [[0], [1, 2]]])
def test_errors_are_those_of_the_call(cu_seqlens: Any, rng: np.random.Generator) -> None:
    tokens = normal(rng, (3, 1, 4), "float32")
    with pytest.raises((TypeError, ValueError)) as alone:
        al.attention_varlen(tokens, tokens, tokens, cu_seqlens)
    with observe_attention(lambda call: None), pytest.raises(alone.type) as observed:
        al.attention_varlen(tokens, tokens, tokens, cu_seqlens)
    assert str(observed.value) == str(alone.value)
    with observe_attention(lambda call: None), pytest.raises(ValueError, match="query"):
        al.attention_varlen(tokens[0], tokens, tokens, [0, 3])


@pytest.mark.parametrize(("batch", "tokens"), [(1, 0), (0, 1), (0, 0)])
def test_steps_of_nothing(batch: int, tokens: int) -> None:
    """Watched as alone: no sequences, or no tokens in them."""
    caches = np.zeros((2, batch, 1, 4, 2), np.float32)
    weights: dict[str, Any] = {"norm_weight": np.ones(4, np.float32), "heads": 2, "groups": 1, "eps": 0.1}
    weights["in_proj"] = al.pack_weight(np.ones((8, 4), np.float32))
    weights["out_proj"] = al.pack_weight(np.ones((4, 4), np.float32))
    x = np.ones((batch, tokens, 4), np.float32)
    lengths: list[int] = [0] * batch
    alone = cached_self_attention(x, *caches, lengths, **weights)
    with observe_attention(lambda call: None):
        assert cached_self_attention(x, *caches, lengths, **weights).shape == alone.shape == x.shape
