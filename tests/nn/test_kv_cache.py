"""KVCache against a naive model: one list of tokens per layer and sequence."""

from __future__ import annotations

import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attnlib as al
from attnlib.nn import KVCache

HEADS, DIM, LAYERS = 2, 3, 2


def tokens(rng: np.random.Generator, batch: int, count: int) -> np.ndarray:
    return rng.standard_normal((batch, HEADS, count, DIM), dtype=np.float32)


def assert_holds(cache: KVCache, model: list[list[np.ndarray]]) -> None:
    """`model[layer][row]` is (G, length, D); values are minus the keys."""
    for layer in range(LAYERS):
        keys, values, lengths = cache.read(layer)
        assert lengths.tolist() == [row.shape[1] for row in model[layer]]
        for b, row in enumerate(model[layer]):
            np.testing.assert_array_equal(keys[b, :, : lengths[b]], row)
            np.testing.assert_array_equal(values[b, :, : lengths[b]], -row)


operation = st.tuples(
    st.sampled_from(["append", "ragged", "truncate", "reorder", "fork", "reset", "save"]),
    st.integers(0, 2**31),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(operation, max_size=12))
def test_any_operations(tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, int]]) -> None:
    cache = KVCache(LAYERS, 2, HEADS, DIM, capacity=1)
    model = [[np.empty((HEADS, 0, DIM), np.float32)] * 2 for _ in range(LAYERS)]
    others: list[tuple[KVCache, list[list[np.ndarray]]]] = []
    for name, seed in operations:
        rng = np.random.default_rng(seed)
        batch = cache.batch_size
        if name in ("append", "ragged"):
            count = int(rng.integers(0, 5))
            new = rng.integers(0, count + 1, batch) if name == "ragged" else np.full(batch, count)
            for layer in range(LAYERS):
                key = tokens(rng, batch, count)
                cache.append(layer, key, -key, new_lengths=new)
                model[layer] = [
                    np.concatenate([row, key[b, :, : new[b]]], axis=1) for b, row in enumerate(model[layer])
                ]
        elif name == "truncate":
            length = int(rng.integers(0, 8))
            cache.truncate(length)
            model = [[row[:, :length] for row in rows] for rows in model]
        elif name == "reorder":
            rows = rng.integers(0, batch, int(rng.integers(1, 4)))
            cache.reorder(rows)
            model = [[layer[i] for i in rows] for layer in model]
        elif name == "fork":
            others.append((cache, model))
            cache = cache.fork(2)[int(rng.integers(0, 2))]
            if rng.integers(0, 2):
                (cache, model), others[-1] = others[-1], (cache, model)
            model = [list(rows) for rows in model]
        elif name == "reset":
            cache.reset()
            model = [[row[:, :0] for row in rows] for rows in model]
        else:
            path = tmp_path_factory.mktemp("cache") / "cache.npz"
            cache.save(path)
            cache = KVCache.load(path)
        assert_holds(cache, model)
        for other in others:
            assert_holds(*other)


def test_fork_shares_until_written() -> None:
    cache = KVCache(1, 1, HEADS, DIM)
    key = tokens(np.random.default_rng(0), 1, 5)
    cache.append(0, key, key)
    first, second = cache.fork(2)
    assert np.shares_memory(first.read(0)[0], second.read(0)[0])
    first.append(0, key, key)
    assert not np.shares_memory(first.read(0)[0], second.read(0)[0])


@pytest.mark.parametrize("step", [1, 3, 7])
def test_window_keeps_what_attention_reads(step: int) -> None:
    rng = np.random.default_rng(step)
    cache = KVCache(1, 2, HEADS, DIM, capacity=4, window=4)
    key, query = tokens(rng, 2, 42), tokens(rng, 2, 42)
    whole = al.attention(query, key, -key, causal=True, window=(3, 0))
    for start in range(0, 42, step):
        part = slice(start, start + step)
        keys, values, lengths = cache.append(0, key[:, :, part], -key[:, :, part])
        out = al.attention(query[:, :, part], keys, values, causal=True, window=(3, 0), key_lengths=lengths)
        # Averages of 4 values of size 4: 4 products and 4 roundings of each weight, on either side.
        np.testing.assert_allclose(out, whole[:, :, part], rtol=0, atol=32 * np.finfo(np.float32).eps)
    assert cache.positions.tolist() == [42, 42]
    assert cache.lengths.max() < 42


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.int8])
def test_dtypes_and_files(dtype: type, tmp_path: Path) -> None:
    cache = KVCache(1, 2, HEADS, DIM, dtype=dtype)
    key = tokens(np.random.default_rng(1), 2, 5)
    key[0, 0, 0] = 0
    given_key = key if dtype == np.int8 else key.astype(dtype)
    keys, _, _ = cache.append(0, given_key, given_key)
    if dtype == np.int8:
        half = np.abs(key).max(axis=-1, keepdims=True) / 254
        assert (np.abs(keys - key) <= half * (1 + 256 * np.finfo(np.float32).eps)).all()
    else:
        np.testing.assert_array_equal(keys, given_key)
    cache.save(tmp_path / "cache")
    np.testing.assert_array_equal(KVCache.load(tmp_path / "cache").read(0)[0], keys)


def test_int8_keeps_dirt_to_its_token() -> None:
    cache = KVCache(1, 1, HEADS, DIM, dtype="int8")
    key = tokens(np.random.default_rng(2), 1, 4)
    key[0, 0, 1, 0], key[0, 1, 2, 1] = np.nan, -np.inf
    key[0, 0, 3] = np.array([1e-45, -1e-45, 0])
    keys, _, _ = cache.append(0, key, key)
    dirty = ~np.isfinite(key).all(axis=-1)
    np.testing.assert_array_equal(np.isnan(keys).all(axis=-1), dirty)
    half = np.abs(key[~dirty]).max(axis=-1, keepdims=True) / 254
    assert (np.abs(keys[~dirty] - key[~dirty]) <= half * (1 + 256 * np.finfo(np.float32).eps) + 1e-45).all()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_join(dtype: str) -> None:
    """Sequences of different lengths and rooms; what is written to the whole leaves the parts alone."""
    rng = np.random.default_rng(3)
    parts = [
        KVCache(2, batch, HEADS, DIM, capacity=room, dtype=dtype) for batch, room in ((1, 2), (2, 9), (1, 1))
    ]
    for count, part in zip((5, 3, 0), parts, strict=True):
        for layer in range(2):
            key = tokens(rng, part.batch_size, count)
            part.append(layer, key, -key)
    whole = KVCache.join(parts)
    assert whole.batch_size == 4
    assert whole.lengths.tolist() == [5, 3, 3, 0]
    key = tokens(rng, 4, 2)
    for layer in range(2):
        keys, values, lengths = whole.append(layer, key, -key)
        assert lengths.tolist() == [7, 5, 5, 2]
        row = 0
        for part in parts:
            old, _, old_lengths = part.read(layer)
            for b, length in enumerate(old_lengths.tolist()):
                np.testing.assert_array_equal(keys[row, :, :length], old[b, :, :length])
                np.testing.assert_array_equal(values[row, :, :length], -old[b, :, :length])
                row += 1
    with pytest.raises(ValueError, match="there are no caches"):
        KVCache.join([])
    with pytest.raises(ValueError, match="caches differ"):
        KVCache.join([parts[0], KVCache(2, 1, HEADS, DIM + 1, dtype=dtype)])


def test_a_loaded_cache_goes_on(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    cache = KVCache(1, 1, HEADS, DIM)
    first, second = tokens(rng, 1, 6), tokens(rng, 1, 2)
    cache.append(0, first, first)
    cache.save(tmp_path / "cache")
    loaded = KVCache.load(tmp_path / "cache")
    loaded.truncate(3)
    keys, _, _ = loaded.append(0, second, second)
    np.testing.assert_array_equal(keys, np.concatenate([first[:, :, :3], second], axis=2))


def test_a_header_is_not_believed(tmp_path: Path) -> None:
    """An array that says it has a thousand million million elements, of which there are 12."""
    path = tmp_path / "cache"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 1000000000000000, 3), }"
    header += b" " * (117 - len(header)) + b"\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("key.0.npy", data)
    with pytest.raises(ValueError, match="not a saved cache"):
        KVCache.load(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("key.0.npy", bytes(1 << 20))
    with pytest.raises(ValueError, match="compressed or larger than the file"):
        KVCache.load(path)
    with pytest.raises(FileNotFoundError):
        KVCache.load(tmp_path / "nothing")


def test_malformed_files(tmp_path: Path) -> None:
    path = tmp_path / "cache"
    cache = KVCache(1, 1, HEADS, DIM)
    key = tokens(np.random.default_rng(0), 1, 2)
    cache.append(0, key, key)
    cache.save(path)
    entries = dict(np.load(path))
    good = path.read_bytes()
    for content in (b"", b"junk", good[: len(good) // 2]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="not a saved cache"):
            KVCache.load(path)
    for change in ({"lengths": np.array([[3]])}, {"dtype": np.array("int64")}, {"format": np.array("x")}):
        with path.open("wb") as file:
            np.savez(file, **(entries | change))
        with pytest.raises(ValueError, match="not a saved cache"):
            KVCache.load(path)


def test_bad_input_changes_nothing() -> None:
    cache = KVCache(1, 2, HEADS, DIM, max_length=3)
    key = tokens(np.random.default_rng(0), 2, 2)
    cache.append(0, key, key)
    for layer in (-1, 1):
        with pytest.raises(IndexError, match=rf"^KVCache\.read: layer {layer} is not in a cache of 1 layers"):
            cache.read(layer)
    with pytest.raises(IndexError, match=r"^KVCache\.append: layer 1"):
        cache.append(1, key, key)
    with pytest.raises(ValueError, match=r"key has shape \(1, 2, 2, 3\)"):
        cache.append(0, key[:1], key[:1])
    with pytest.raises(TypeError, match="dtype float64, a float32 cache takes float32"):
        cache.append(0, key.astype(np.float64), key)
    with pytest.raises(ValueError, match="max_length 3"):
        cache.append(0, key, key)
    with pytest.raises(ValueError, match="indices"):
        cache.reorder([2])
    assert cache.lengths.tolist() == [2, 2]


@pytest.mark.parametrize("evict_by", [1, 3, 8])
def test_eviction_by_multiples(evict_by: int, tmp_path: Path) -> None:
    """What is evicted is a multiple, no more than attention does not read, and survives saving."""
    cache = KVCache(1, 1, HEADS, DIM, capacity=16, window=5, evict_by=evict_by)
    for position in range(60):
        token = np.full((1, HEADS, 1, DIM), position, np.float32)
        keys, _, _ = cache.append(0, token, token)
        evicted = int(cache.positions[0] - cache.lengths[0])
        assert evicted % evict_by == 0
        assert evicted <= max(position - 4, 0)
        assert keys[0, 0, :, 0].tolist() == list(range(evicted, position + 1))
    assert keys.shape[2] <= 16
    cache.save(tmp_path / "cache.npz")
    assert KVCache.load(tmp_path / "cache.npz").evict_by == evict_by
    with pytest.raises(ValueError, match="evict_by must be at least 1, got 0"):
        KVCache(1, 1, HEADS, DIM, evict_by=0)
