"""What moves the arrays of a KVCache: eviction, growth, forks; and what must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from attnlib.nn import KVCache


def token(value: float, count: int = 1) -> np.ndarray:
    return np.full((1, 2, count, 4), value, np.float32)


def held(cache: KVCache) -> list[object]:
    keys, values, lengths = cache.read(0)
    return [keys.tolist(), values.tolist(), lengths.tolist(), cache.positions.tolist(), cache.nbytes]


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize(
    "changes",
    [
        {"query": np.zeros((1, 3, 1, 4), np.float32)},
        {"query": np.zeros((1, 2, 1, 5), np.float32)},
        {"value": np.zeros((1, 2, 2, 4), np.float32)},
        {"scale": float("nan")},
        {"cos": np.ones((2, 2), np.float32), "sin": np.ones((2, 2), np.float32)},
    ],
)
@pytest.mark.parametrize("window", [None, 3])
def test_a_refused_step_changes_nothing(dtype: str, changes: dict[str, object], window: int | None) -> None:
    """With the room full, so that the step must evict or grow first."""
    cache = KVCache(1, 1, 2, 4, capacity=5, window=window, dtype=dtype)
    for value in range(5):
        cache.append(0, token(value), token(-value))
    before = held(cache)
    with pytest.raises(ValueError):  # noqa: PT011 (each names another argument)
        cache.attend(0, **{"query": token(1), "key": token(1), "value": token(1)} | changes)  # type: ignore[arg-type]
    assert held(cache) == before


def test_evicted_tokens_do_not_come_back() -> None:
    cache = KVCache(1, 1, 2, 4, capacity=4, window=4)
    for value in range(4):
        cache.append(0, token(value), token(value))
    cache.truncate(1)
    assert cache.lengths.tolist() == [1]
    for value in range(1, 4):
        cache.append(0, token(value), token(value))
    cache.append(0, token(4, 2), token(4, 2))
    assert (cache.positions - cache.lengths).tolist() == [1]
    before = held(cache)
    with pytest.raises(ValueError, match=r"length is 2 for sequence 0, .* first 1 tokens .* at least 3 of"):
        cache.truncate(2)
    assert held(cache) == before
    cache.truncate(3)
    assert cache.read(0)[0][0, 0, :, 0].tolist() == [1, 2, 3]


def assert_side_by_side(cache: KVCache) -> None:
    """Values begin where keys end: one block of memory."""
    for keys, values in (layer.stores for layer in cache._layers):
        start, after = (array.__array_interface__["data"][0] for array in (keys.data, values.data))
        assert after - start == keys.data.nbytes


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_keys_and_values_stay_side_by_side(dtype: str, tmp_path: Path) -> None:
    cache = KVCache(1, 1, 2, 4, capacity=2, window=4, dtype=dtype)
    for value in range(20):
        cache.append(0, token(value), token(value))
        assert_side_by_side(cache)
    fork = cache.fork(1)[0]
    fork.append(0, token(1), token(1))
    assert_side_by_side(fork)
    assert_side_by_side(KVCache.join([cache, fork]))
    fork.reorder([0, 0, 0])
    assert_side_by_side(fork)
    cache.save(tmp_path / "cache")
    assert_side_by_side(KVCache.load(tmp_path / "cache"))


def test_an_order_that_is_kept_copies_nothing() -> None:
    cache = KVCache(1, 2, 2, 4)
    cache.append(0, *np.ones((2, 2, 2, 3, 4), np.float32))
    before = cache.read(0)[0]
    cache.reorder([0, 1])
    assert np.shares_memory(cache.read(0)[0], before)
    # A fork's arrays are still the original's, and still not written.
    fork = cache.fork(1)[0]
    fork.reorder([0, 1])
    fork.truncate(1)
    fork.append(0, *np.zeros((2, 2, 2, 1, 4), np.float32))
    assert (cache.read(0)[0] == 1).all()
    for order in ([0], [1, 0], [0, 1, 0]):
        (other,) = cache.fork(1)
        other.reorder(order)
        assert not np.shares_memory(other.read(0)[0], before)


def test_no_sequences() -> None:
    """A cache whose sequences have all ended still takes steps of none."""
    cache = KVCache(1, 2, 1, 3, capacity=0)
    cache.reorder(np.zeros(0, int))
    nothing = np.zeros((0, 1, 2, 3), np.float32)
    keys, _, lengths = cache.append(0, nothing, nothing)
    assert keys.shape == (0, 1, 0, 3)
    assert lengths.shape == (0,)
    cache.fork(1)
    cache.append(0, nothing, nothing)
