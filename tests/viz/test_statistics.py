"""Statistics of attention against the whole matrix in float64, and in little memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from arrays import DTYPES, accumulator, epsilon, native
from attention_check import make_qkv
from attention_examples import EXAMPLES, Example
from processes import RunPython
from test_memory import grown
from tolerance import assert_within, attention_bounds, rounding

import attnlib as al
from attnlib import viz

Array = np.ndarray[Any, Any]


def check(query: Array, key: Array, *, top_k: int = 5, **options: Any) -> viz.AttentionStatistics:
    """Compare all statistics with those of the oracle's weights, within what its bounds allow."""
    found = viz.attention_statistics(query, key, top_k=top_k, **options)
    options.pop("block", None)
    value = np.zeros((*key.shape[:-1], 1), key.dtype)
    exact = oracle.attention(query, key, value, **options)
    weights, dtype = exact.weights, query.dtype
    error = attention_bounds(exact, query.shape[-1], dtype)[1]
    error = error + rounding(weights + error, dtype)
    eps = epsilon(accumulator(dtype))

    assert found.received.dtype == found.entropy.dtype == np.float64
    assert_within(found.received, weights.sum(-2), error.sum(-2) + 1e-12, what="received")

    # |f(a) - f(b)| for f(w) = -w log w: by the slope between them; or, where they are that small, f(|a - b|).
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(weights > 0, weights * np.log(weights), 0.0)
        slopes = 2 + np.abs(np.log(np.maximum(weights, error)))
    bound = (np.where(error > 0, error * slopes, 0.0) + 8 * eps * np.abs(terms)).sum(-1)
    assert_within(found.entropy, -terms.sum(-1), bound, what="entropy")

    # Sorting moves no value further than the farthest moved before.
    listed = min(top_k, key.shape[-2])
    assert found.top_keys.shape == found.top_weights.shape == (*weights.shape[:-1], listed)
    assert found.top_weights.dtype == dtype
    top = -np.sort(-weights, axis=-1)[..., :listed]
    farthest = error.max(axis=-1, keepdims=True, initial=0.0)
    found_weights = found.top_weights.astype(np.float64)
    assert_within(found_weights, top, np.broadcast_to(farthest, top.shape), what="top_weights")
    some = found.top_keys >= 0
    assert (some == (found_weights > 0)).all()
    at = np.take_along_axis(weights, np.where(some, found.top_keys, 0), axis=-1) if listed else top
    assert_within(np.where(some, found_weights, at), at, np.broadcast_to(farthest, at.shape), what="top_keys")
    assert (np.diff(found_weights, axis=-1) <= 0).all()
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("causal", [False, True])
def test_dtypes(dtype: str, causal: bool, rng: np.random.Generator) -> None:
    query, key, _ = make_qkv(rng, queries=33, keys=129, dtype=DTYPES[dtype])
    check(query, key, causal=causal)


@pytest.mark.parametrize("queries", [0, 1, 7, 64, 65, 130])
@pytest.mark.parametrize("keys", [0, 1, 3, 17, 150])
def test_sizes(queries: int, keys: int, rng: np.random.Generator) -> None:
    query, key, _ = make_qkv(rng, queries=queries, keys=keys)
    check(query, key)


@pytest.mark.parametrize(
    "options",
    [
        {"window": (20, 3)},
        {"causal": True, "window": (10, None)},
        {"causal": True, "query_offset": 4},
        {"causal": True, "query_offset": [0, 50]},
        {"key_lengths": [5, 90], "causal": True},
        {"key_lengths": 0},
        {"scale": 0.9, "softcap": 3.0},
        {"alibi_slopes": [0.5, 0.25, 0.125, 0.0625], "sinks": [0.0, 1.0, 2.0, 3.0], "causal": True},
    ],
)
def test_options(options: dict[str, Any], rng: np.random.Generator) -> None:
    """Positions go on from block to block."""
    query, key, _ = make_qkv(rng, queries=70, keys=90)
    check(query, key, block=16, **options)


@pytest.mark.parametrize("shape", [(70, 90), (4, 1, 90), (2, 1, 70, 1), (1,), (2, 4, 70, 90)])
def test_mask_and_bias_broadcast(shape: Sequence[int], rng: np.random.Generator) -> None:
    query, key, _ = make_qkv(rng, queries=70, keys=90)
    check(query, key, mask=rng.random(shape) < 0.4)
    check(query, key, bias=rng.standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_by_hand(example: Example) -> None:
    """One head of two axes: exact counts."""
    found = viz.attention_statistics(example.query, example.key, **example.options)
    np.testing.assert_allclose(found.received, example.weights.sum(0), atol=1e-12)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(example.weights > 0, example.weights * np.log(example.weights), 0.0)
    np.testing.assert_allclose(found.entropy, -terms.sum(-1), atol=1e-12)
    assert not np.signbit(found.entropy).any()
    nothing = ~example.weights.any(axis=-1)
    assert (found.top_keys[nothing] == -1).all()
    assert (found.top_weights[nothing] == 0).all()


def test_tensors_of_bfloat16(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 9, 8), (2, 13, 8), (9, 13))]
    query, key, bias = (torch.from_numpy(array).bfloat16() for array in arrays)
    found = viz.attention_statistics(query, key, bias=bias)
    wanted = viz.attention_statistics(*(al.from_dlpack(x) for x in (query, key)), bias=al.from_dlpack(bias))
    assert found.top_weights.dtype == wanted.top_weights.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found.received, wanted.received)


def test_of_equal_weights_the_first_key_comes_first() -> None:
    found = viz.attention_statistics(np.zeros((2, 4)), np.ones((9, 4)), top_k=20)
    assert found.top_keys.tolist() == [list(range(9))] * 2


def test_batches_broadcast(rng: np.random.Generator) -> None:
    query, key, _ = make_qkv(rng, batch=(3, 1), queries=5)
    shared = key[:1, :1].repeat(2, axis=1)
    found = viz.attention_statistics(query, shared)
    assert found.received.shape == (3, 2, 4, 13)
    check(np.broadcast_to(query, (3, 2, 4, 5, 8)), np.broadcast_to(shared, (3, 2, 2, 13, 8)))


def test_bits_do_not_move(rng: np.random.Generator) -> None:
    """Neither with threads, nor the batch, nor padding of the keys."""
    query, key, _ = make_qkv(rng, batch=(3,), queries=150, keys=300)
    whole = viz.attention_statistics(query, key)
    longer = np.concatenate([key, key[..., :130, :] * np.nan], axis=-2)
    with al.num_threads(2):
        again = viz.attention_statistics(native(query[1:2]), longer[1:2], key_lengths=300)
    for name in ("received", "entropy", "top_keys", "top_weights"):
        one = getattr(whole, name)[1]
        padded = getattr(again, name)[0]
        assert (padded[..., :300] if name == "received" else padded).tobytes() == one.tobytes()
    assert not again.received[..., 300:].any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ({"top_k": 1.5}, TypeError, "top_k must be an integer, got float"),
        ({"block": -1}, ValueError, "block must be at least 1, got -1"),
        ({"query": np.zeros(4)}, ValueError, r"query \(4,\)"),
        ({"key": np.zeros((1, 3, 13, 8))}, ValueError, "3 key/value heads"),
        ({"key": np.zeros((3, 2, 13, 8))}, ValueError, "do not broadcast"),
        ({"mask": np.ones((9, 12), bool)}, ValueError, r"mask has shape \(9, 12\)"),
        ({"mask": np.ones((9, 13))}, TypeError, "mask"),
        ({"query": np.zeros((2, 4, 9, 8), int)}, TypeError, "query"),
        ({"key": np.zeros((2, 2, 13, 7))}, ValueError, "7"),
        ({"key_lengths": [1, 2, 3]}, ValueError, "key_lengths"),
        ({"key_lengths": [1, 14]}, ValueError, "key_lengths"),
        ({"key_lengths": [1.0, 2.0]}, TypeError, "key_lengths"),
        ({"query_offset": [1, 2, 3]}, ValueError, "query_offset"),
        ({"query_offset": {1.0}}, TypeError, "query_offset must be integers, got object"),
        ({"sinks": [1.0, 2.0]}, ValueError, "sinks"),
        ({"query": np.ma.zeros((2, 4, 9, 8))}, TypeError, "query is a masked array"),
        ({"key": np.ma.zeros((2, 2, 13, 8))}, TypeError, "key is a masked array"),
        ({"bias": np.ma.zeros((9, 13))}, TypeError, "bias is a masked array"),
    ],
)
def test_bad_input(change: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"query": np.zeros((2, 4, 9, 8)), "key": np.zeros((2, 2, 13, 8)), **change}
    with pytest.raises(error, match=message):
        viz.attention_statistics(**arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")
def test_no_matrix_is_held(run_python: RunPython) -> None:
    """S 8192 and two heads: the weights would take 512 MB; a block of 64 rows takes 2."""
    body = """
from attnlib import viz
q = touched((1, 2, 8192, 8))
viz.attention_statistics(q[:, :, :70], q[:, :, :70])
print(growth(lambda: viz.attention_statistics(q, q, causal=True)))
"""
    results = 2 * 8192 * (8 + 8 + 5 * 8 + 5 * 4)
    assert grown(run_python, body) < results + 16 * 2**20
