"""What a decoder keeps between steps: the keys and values of all its layers.

Letters: B batch, G key/value heads, S new tokens, L tokens kept, D head size.
"""

from __future__ import annotations

import zipfile
from os import PathLike
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib.nn.module import check_size

__all__ = ["KVCache"]

_DTYPES = {
    dtype.name: dtype
    for dtype in (np.dtype(d) for d in (np.float32, np.float16, ml_dtypes.bfloat16, np.int8))
}
_FORMAT = "attnlib.KVCache.1"


class _Store:
    """Keys or values of one layer, (B, G, capacity, D); int8 codes have float32 scales."""

    def __init__(self, data: NDArray[Any], scales: NDArray[np.float32] | None) -> None:
        self.data = data
        self.scales = scales

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Store:
        scales = np.zeros(shape[:-1], np.float32) if dtype == np.int8 else None
        return cls(np.zeros(shape, dtype), scales)

    def write(self, row: int, start: int, tokens: NDArray[Any]) -> None:
        place = (row, slice(None), slice(start, start + tokens.shape[1]))
        if self.scales is None:
            self.data[place] = tokens
            return
        exact = tokens.astype(np.float32)
        scale = np.abs(exact).max(axis=-1, initial=0.0) / np.float32(127)
        divisor = np.where(scale == 0, np.float32(1), scale)
        self.data[place] = np.clip(np.rint(exact / divisor[..., None]), -127, 127).astype(np.int8)
        self.scales[place] = scale

    def read(self, length: int) -> NDArray[Any]:
        view = self.data[:, :, :length]
        return view if self.scales is None else view * self.scales[:, :, :length, None]

    def resized(self, capacity: int, kept: int) -> _Store:
        """Copy the first `kept` tokens into new arrays of `capacity`."""
        shape = (*self.data.shape[:2], capacity, self.data.shape[3])
        new = _Store.empty(shape, self.data.dtype)
        new.data[:, :, :kept] = self.data[:, :, :kept]
        if new.scales is not None and self.scales is not None:
            new.scales[:, :, :kept] = self.scales[:, :, :kept]
        return new

    def rows(self, indices: NDArray[np.intp]) -> _Store:
        return _Store(self.data[indices], None if self.scales is None else self.scales[indices])

    def drop_first(self, row: int, count: int, length: int) -> None:
        """Move tokens ``count..length`` of one sequence to the front (NumPy minds the overlap)."""
        for array in (self.data, self.scales):
            if array is not None:
                array[row, :, : length - count] = array[row, :, count:length]

    @property
    def nbytes(self) -> int:
        return self.data.nbytes + (0 if self.scales is None else self.scales.nbytes)


class KVCache:
    """Keys and values of earlier tokens, for every layer of a decoder.

    Sequences are left-aligned: the tokens of entry b are the first ``lengths[b]`` places, as `key_lengths` of
    `attnlib.attention` counts them. Its default `query_offset` puts the last query at the last valid key,
    so a step in which all sequences gain equally many tokens needs no other argument.

    Parameters
    ----------
    num_layers, batch_size, num_kv_heads, head_dim
        Layers, sequences B, key/value heads G and head size D.
    max_length
        The most tokens that a sequence may keep. Default None: no limit.
    capacity
        Tokens for which there is room at first. It doubles when more come. Default 16.
    window
        Only the last `window` tokens are sure to be kept: older ones may be evicted when the room is used up.
        Attention over the cache must itself be limited with ``window=(window - 1, 0)``, since a view may
        still hold older tokens. Default None: nothing is evicted.
    dtype
        ``"float32"``, ``"float16"``, ``"bfloat16"`` or ``"int8"``. Keys and values are rounded to it. int8
        has one symmetric scale per token and head, ``max|x| / 127``, so an element is off by at most half a
        scale; it is read back as float32, into a new array each time (O(L) work and memory per read).

    Raises
    ------
    TypeError, ValueError
        For sizes or a dtype that make no cache.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> cache = nn.KVCache(1, 2, 4, 8)
    >>> token = np.ones((2, 4, 1, 8), np.float32)
    >>> keys, values, lengths = cache.append(0, token, token)
    >>> keys.shape, lengths.tolist()
    ((2, 4, 1, 8), [1, 1])
    """

    def __init__(
        self,
        num_layers: int,
        batch_size: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        max_length: int | None = None,
        capacity: int = 16,
        window: int | None = None,
        dtype: DTypeLike = "float32",
    ) -> None:
        check_size(
            "KVCache",
            num_layers=num_layers,
            batch_size=batch_size,
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            capacity=capacity,
        )
        for name, limit in (("max_length", max_length), ("window", window)):
            if limit is not None:
                check_size("KVCache", **{name: limit})
                if limit == 0:
                    raise ValueError(f"KVCache: {name} must be at least 1, got 0")
        try:
            name = np.dtype(dtype).name
        except TypeError:
            raise TypeError(f"KVCache: dtype {dtype!r} is not known") from None
        if name not in _DTYPES:
            raise TypeError(f"KVCache: dtype must be one of {', '.join(_DTYPES)}, got {name}")
        self.num_layers = num_layers
        self.batch_size = batch_size
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.max_length = max_length
        self.window = window
        self.dtype = _DTYPES[name]
        room = capacity if max_length is None else min(capacity, max_length)
        shape = (batch_size, num_kv_heads, room, head_dim)
        self._stores = [
            (_Store.empty(shape, self.dtype), _Store.empty(shape, self.dtype)) for _ in range(num_layers)
        ]
        self._shared = [False] * num_layers
        self._lengths = np.zeros((num_layers, batch_size), np.int64)
        self._evicted = np.zeros((num_layers, batch_size), np.int64)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens that every layer keeps, (B,); a layer in mid-step may have more."""
        return self._lengths.min(axis=0, initial=np.iinfo(np.int64).max) if self.num_layers else self._none()

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where the next token of each sequence stands, (B,), evicted tokens counted."""
        total = self._lengths + self._evicted
        return total.min(axis=0) if self.num_layers else self._none()

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, also of those shared with a fork."""
        return sum(store.nbytes for pair in self._stores for store in pair)

    def _none(self) -> NDArray[np.int64]:
        return np.zeros(self.batch_size, np.int64)

    def append(
        self, layer: int, key: ArrayLike, value: ArrayLike, *, new_lengths: ArrayLike | None = None
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Add tokens to one layer and return all that its attention reads.

        Parameters
        ----------
        layer
            Index of the layer.
        key, value : (B, G, S, D)
        new_lengths : (B,) integers, optional
            Only so many of the S tokens of each sequence are real. Default: all. The queries of a ragged
            step need ``query_offset=key_lengths - new_lengths``.

        Returns
        -------
        keys, values : (B, G, L, D) ndarrays
            L is the greatest length. Views, valid until the cache changes; new float32 arrays for int8.
        key_lengths : (B,) int64
            The valid tokens of each sequence.

        Raises
        ------
        IndexError, TypeError, ValueError
            If the layer, a shape or a dtype is not the cache's, or `max_length` would be passed. The cache
            is then unchanged.
        """
        if not 0 <= layer < self.num_layers:
            raise IndexError(f"KVCache.append: layer {layer} is not in a cache of {self.num_layers} layers")
        arrays = [self._check(name, array) for name, array in (("key", key), ("value", value))]
        count = arrays[0].shape[2]
        if arrays[1].shape[2] != count:
            raise ValueError(f"KVCache.append: key {arrays[0].shape} and value {arrays[1].shape} differ")
        new = self._integers("append: new_lengths", new_lengths, count, count)
        self._make_room(layer, new)
        before = self._lengths[layer].copy()
        for store, array in zip(self._stores[layer], arrays, strict=True):
            for row in range(self.batch_size):
                store.write(row, int(before[row]), array[row, :, : new[row]])
        self._lengths[layer] += new
        return self.read(layer)

    def read(self, layer: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]:
        """Return keys, values and lengths of one layer, as `append` does."""
        lengths = self._lengths[layer].copy()
        longest = int(lengths.max(initial=0))
        key, value = self._stores[layer]
        return key.read(longest), value.read(longest), lengths

    def truncate(self, length: ArrayLike) -> None:
        """Forget tokens after the first `length`, an integer or (B,): the rollback of speculation.

        Lengths count kept tokens, as `lengths` does. A sequence that is shorter stays as it is.
        """
        limit = self._integers("truncate: length", length, 0, None)
        np.minimum(self._lengths, limit, out=self._lengths)

    def reorder(self, indices: ArrayLike) -> None:
        """Make sequence i what sequence ``indices[i]`` was (beams); B becomes ``len(indices)``."""
        rows = np.asarray(indices)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError(f"KVCache.reorder: indices must be 1-D integers, got {rows.dtype} {rows.shape}")
        if ((rows < 0) | (rows >= self.batch_size)).any():
            raise ValueError(f"KVCache.reorder: indices must be in 0..{self.batch_size - 1}, got {rows}")
        rows = rows.astype(np.intp)
        self._stores = [(key.rows(rows), value.rows(rows)) for key, value in self._stores]
        self._shared = [False] * self.num_layers
        self._lengths = self._lengths[:, rows]
        self._evicted = self._evicted[:, rows]
        self.batch_size = len(rows)

    def fork(self, n: int) -> list[KVCache]:
        """Make `n` caches that go on from this one, sharing its arrays until one of them is written.

        Each layer is copied when it is first appended to, by whichever cache does so.
        """
        check_size("KVCache.fork", n=n)
        self._shared = [True] * self.num_layers
        forks = []
        for _ in range(n):
            twin = object.__new__(KVCache)
            twin.__dict__.update(self.__dict__)
            twin._stores = list(self._stores)
            twin._shared = list(self._shared)
            twin._lengths = self._lengths.copy()
            twin._evicted = self._evicted.copy()
            forks.append(twin)
        return forks

    def reset(self) -> None:
        """Forget all tokens and keep the room for new ones."""
        self._lengths[:] = 0
        self._evicted[:] = 0

    def save(self, path: str | PathLike[str]) -> None:
        """Write the valid part of the cache to `path`, an npz file without pickles."""
        entries: dict[str, NDArray[Any]] = {
            "format": np.array(_FORMAT),
            "dtype": np.array(self.dtype.name),
            "sizes": np.array([self.num_layers, self.batch_size, self.num_kv_heads, self.head_dim], np.int64),
            "limits": np.array([self.max_length or 0, self.window or 0], np.int64),
            "lengths": self._lengths,
            "evicted": self._evicted,
        }
        for layer, pair in enumerate(self._stores):
            kept = int(self._lengths[layer].max(initial=0))
            for name, store in zip(("key", "value"), pair, strict=True):
                data = store.data[:, :, :kept]
                # npz does not know bfloat16: its bits are kept.
                bits = np.ascontiguousarray(data).view(np.uint16) if data.dtype.itemsize == 2 else data
                entries[f"{name}.{layer}"] = bits
                if store.scales is not None:
                    entries[f"{name}_scales.{layer}"] = store.scales[:, :, :kept]
        with Path(path).open("wb") as file:
            np.savez(file, **entries)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | PathLike[str]) -> KVCache:
        """Read what `save` has written; a file that is nothing of the kind is a ValueError."""
        with Path(path).open("rb") as file:
            try:
                archive = np.load(file, allow_pickle=False)
                if not isinstance(archive, np.lib.npyio.NpzFile):
                    raise ValueError("it is not an npz archive")
                return cls._from_entries({name: archive[name] for name in archive.files})
            except (ValueError, TypeError, KeyError, EOFError, OSError, zipfile.BadZipFile) as error:
                raise ValueError(f"KVCache.load: {path} is not a saved cache: {error}") from error

    @classmethod
    def _from_entries(cls, entries: dict[str, NDArray[Any]]) -> KVCache:
        if str(entries["format"]) != _FORMAT:
            raise ValueError(f"format is {entries['format']}, expected {_FORMAT}")
        sizes, limits = (_entry(entries, name, (n,), np.int64) for name, n in (("sizes", 4), ("limits", 2)))
        if (sizes < 0).any() or (limits < 0).any():
            raise ValueError(f"sizes {sizes} and limits {limits} must not be negative")
        layers, batch, heads, dim = sizes.tolist()
        lengths, evicted = (_entry(entries, n, (layers, batch), np.int64) for n in ("lengths", "evicted"))
        if (lengths < 0).any() or (evicted < 0).any():
            raise ValueError("lengths must not be negative")
        longest, window = (int(limit) or None for limit in limits)
        dtype = str(entries["dtype"])
        cache = cls(0, batch, heads, dim, max_length=longest, window=window, dtype=dtype)
        stored = np.dtype(np.uint16) if cache.dtype.itemsize == 2 else cache.dtype
        for layer in range(layers):
            shape = (batch, heads, int(lengths[layer].max(initial=0)), dim)
            pair = []
            for name in ("key", "value"):
                data = _entry(entries, f"{name}.{layer}", shape, stored).view(cache.dtype)
                quantised = cache.dtype == np.int8
                scales = (
                    _entry(entries, f"{name}_scales.{layer}", shape[:-1], np.float32) if quantised else None
                )
                pair.append(_Store(data, scales))
            cache._stores.append((pair[0], pair[1]))
        cache.num_layers = layers
        cache._shared = [False] * layers
        cache._lengths, cache._evicted = lengths, evicted
        return cache

    def _check(self, name: str, array: ArrayLike) -> NDArray[Any]:
        tokens = np.asarray(array)
        shape = (self.batch_size, self.num_kv_heads, self.head_dim)
        if tokens.ndim != 4 or (*tokens.shape[:2], tokens.shape[3]) != shape:
            expected = f"({shape[0]}, {shape[1]}, S, {shape[2]})"
            raise ValueError(f"KVCache.append: {name} has shape {tokens.shape}, the cache needs {expected}")
        floats = (np.dtype(np.float32), np.dtype(np.float16), _DTYPES["bfloat16"])
        allowed = floats if self.dtype == np.int8 else (self.dtype,)
        if tokens.dtype not in allowed:
            names = ", ".join(dtype.name for dtype in allowed)
            raise TypeError(
                f"KVCache.append: {name} has dtype {tokens.dtype}, a {self.dtype} cache takes {names}"
            )
        return tokens

    def _integers(self, what: str, value: ArrayLike | None, default: int, most: int | None) -> NDArray[Any]:
        array = np.asarray(default if value is None else value)
        if array.dtype.kind not in "iu":
            raise TypeError(f"KVCache.{what} must be integers, got {array.dtype}")
        if array.shape not in ((), (self.batch_size,)):
            raise ValueError(f"KVCache.{what} has shape {array.shape}, expected () or ({self.batch_size},)")
        if (array < 0).any() or (most is not None and (array > most).any()):
            bound = "not be negative" if most is None else f"be in 0..{most}"
            raise ValueError(f"KVCache.{what} must {bound}, got {array}")
        return np.broadcast_to(array.astype(np.int64), (self.batch_size,))

    def _make_room(self, layer: int, new: NDArray[np.int64]) -> None:
        """Evict, grow and stop sharing, so that `new` tokens can be written to the layer."""
        lengths = self._lengths[layer]
        capacity = self._stores[layer][0].data.shape[2]
        surplus = np.zeros_like(lengths)
        if self.window is not None and (lengths + new).max(initial=0) > capacity:
            # The first new query reads window - 1 older tokens.
            surplus = np.maximum(lengths - (self.window - 1), 0)
        needed = int((lengths - surplus + new).max(initial=0))
        if self.max_length is not None and needed > self.max_length:
            raise ValueError(f"KVCache.append: {needed} tokens do not fit in max_length {self.max_length}")
        if needed > capacity or self._shared[layer]:
            room = max(needed, 2 * capacity) if needed > capacity else capacity
            room = room if self.max_length is None else min(room, self.max_length)
            # Before eviction the old tokens may need more than the new room has: they fitted in `capacity`.
            room = max(room, capacity)
            kept = int(lengths.max(initial=0))
            key, value = self._stores[layer]
            self._stores[layer] = key.resized(room, kept), value.resized(room, kept)
            self._shared[layer] = False
        for row in np.flatnonzero(surplus):
            for store in self._stores[layer]:
                store.drop_first(int(row), int(surplus[row]), int(lengths[row]))
        lengths -= surplus
        self._evicted[layer] += surplus


def _entry(
    entries: dict[str, NDArray[Any]], name: str, shape: tuple[int, ...], dtype: DTypeLike
) -> NDArray[Any]:
    array = entries[name]
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{name} is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}")
    return array
