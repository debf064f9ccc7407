"""A `KVCache` in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from attnlib.nn.kv_cache import KVCache
from attnlib.nn.kv_layer import KVLayer
from attnlib.nn.kv_pair import empty_pair
from attnlib.nn.npz_file import read_npz, write_npz

__all__ = ["load_cache", "save_cache"]

_FORMAT = "attnlib.KVCache.1"


def save_cache(cache: KVCache, path: Path) -> None:
    """Write the valid part of a cache to `path`, an npz file without pickles."""
    entries: dict[str, NDArray[Any]] = {
        "format": np.array(_FORMAT),
        "dtype": np.array(cache.dtype.name),
        "sizes": np.array([cache.num_layers, cache.batch_size, cache.num_kv_heads, cache.head_dim], np.int64),
        "limits": np.array([cache.max_length or 0, cache.window or 0, cache.evict_by], np.int64),
        "lengths": cache._lengths,
        "evicted": cache._evicted,
    }
    for number, layer in enumerate(cache._layers):
        kept = max(layer.lengths, default=0)
        for name, store in zip(("key", "value"), layer.stores, strict=True):
            data = store.data[:, :, :kept]
            # npz does not know bfloat16: its bits are kept.
            bits = np.ascontiguousarray(data).view(np.uint16) if data.dtype.itemsize == 2 else data
            entries[f"{name}.{number}"] = bits
            if store.scales is not None:
                entries[f"{name}_scales.{number}"] = store.scales[:, :, :kept]
    write_npz(path, entries)


def load_cache(path: Path) -> KVCache:
    """Read what `save_cache` has written.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or it is nothing of the kind.
    """
    try:
        return _from_entries(read_npz(path))
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"KVCache.load: {path} is not a saved cache: {error}") from error


def _from_entries(entries: dict[str, NDArray[Any]]) -> KVCache:
    if str(entries["format"]) != _FORMAT:
        raise ValueError(f"format is {entries['format']}, expected {_FORMAT}")
    sizes, limits = (_entry(entries, name, (n,), np.int64) for name, n in (("sizes", 4), ("limits", 3)))
    if (sizes < 0).any() or (limits < 0).any():
        raise ValueError(f"sizes {sizes} and limits {limits} must not be negative")
    layers, batch, heads, dim = sizes.tolist()
    lengths, evicted = (_entry(entries, n, (layers, batch), np.int64) for n in ("lengths", "evicted"))
    if (lengths < 0).any() or (evicted < 0).any():
        raise ValueError("lengths must not be negative")
    longest, window = (int(limit) or None for limit in limits[:2])
    dtype = str(entries["dtype"])
    evict_by = int(limits[2])
    cache = KVCache(0, batch, heads, dim, max_length=longest, window=window, evict_by=evict_by, dtype=dtype)
    stored = np.dtype(np.uint16) if cache.dtype.itemsize == 2 else cache.dtype
    for layer in range(layers):
        shape = (batch, heads, int(lengths[layer].max(initial=0)), dim)
        wanted: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]
        wanted = {name: (shape, stored) for name in ("key", "value")}
        if cache.dtype == np.int8:
            wanted |= {f"{name}_scales": (shape[:-1], np.dtype(np.float32)) for name in ("key", "value")}
        # The file must hold that much before there is memory for it.
        found = {name: _entry(entries, f"{name}.{layer}", *kind) for name, kind in wanted.items()}
        pair = empty_pair(shape, cache.dtype)
        for name, store in zip(("key", "value"), pair, strict=True):
            store.data[:] = found[name].view(cache.dtype)
            if store.scales is not None:
                store.scales[:] = found[f"{name}_scales"]
        cache._layers.append(KVLayer(pair, lengths[layer].tolist(), evicted[layer].tolist()))
    cache.num_layers = layers
    return cache


def _entry(
    entries: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    array = entries[name]
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    return array
