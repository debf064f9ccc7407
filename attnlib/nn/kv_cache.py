"""What a decoder keeps between steps: the keys and values of all its layers.

Letters: B batch, G key/value heads, S new tokens, L tokens kept, D head size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib.functional import attention, cached_attention, rotary_embedding
from attnlib.nn.kv_checks import check_limits, check_truncation, storage_dtype, whole_numbers
from attnlib.nn.kv_layer import Kept, KVLayer, UndoneOnError, read_stores
from attnlib.nn.kv_pair import empty_pair
from attnlib.nn.kv_room import Limits
from attnlib.nn.module import check_size

__all__ = ["KVCache"]


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
    evict_by
        Tokens are evicted by multiples of this. `attnlib.attention` sums keys in chunks from the first on:
        multiples of 256, where 64 tokens or more stay, leave the bits of its results as they are without
        eviction. Default 1.
    dtype
        ``"float32"``, ``"float64"``, ``"float16"``, ``"bfloat16"``, which take keys and values of that dtype,
        or ``"int8"``, which takes any but float64. int8 has one symmetric scale per token and head, ``max|x|
        / 127``, so an element is off by at most half a scale; it is read back as float32, into a new array
        each time (O(L) work and memory per read). A token with NaN or infinity is NaN when read.

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
        evict_by: int = 1,
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
        check_limits(max_length=max_length, window=window, evict_by=evict_by)
        self.num_layers = num_layers
        self.batch_size = batch_size
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim
        self.max_length = max_length
        self.window = window
        self.evict_by = evict_by
        self.dtype = storage_dtype(dtype)
        room = capacity if max_length is None else min(capacity, max_length)
        shape = (batch_size, num_kv_heads, room, head_dim)
        nothing = [0] * batch_size
        self._layers = [KVLayer(empty_pair(shape, self.dtype), nothing, nothing) for _ in range(num_layers)]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens that every layer keeps, (B,); a layer in mid-step may have more."""
        return self._least([layer.lengths for layer in self._layers])

    @property
    def positions(self) -> NDArray[np.int64]:
        """Where the next token of each sequence stands, (B,), evicted tokens counted."""
        return self._least([layer.positions for layer in self._layers])

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays, also of those shared with a fork."""
        return sum(store.nbytes for layer in self._layers for store in layer.stores)

    def append(
        self, layer: int, key: ArrayLike, value: ArrayLike, *, new_lengths: ArrayLike | None = None
    ) -> Kept:
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
        here = self._layer("append", layer)
        keys, values, new = here.checked(key, value, new_lengths)
        here.keep(here.write(keys, values, new, self._limits), new)
        return here.read()

    def attend(
        self,
        layer: int,
        query: NDArray[Any],
        key: NDArray[Any],
        value: NDArray[Any],
        *,
        cos: NDArray[Any] | None = None,
        sin: NDArray[Any] | None = None,
        positions: NDArray[np.integer[Any]] | None = None,
        window: int | None = None,
        scale: float | None = None,
    ) -> NDArray[Any]:
        """Add tokens to one layer and let them attend, causally, to all that it keeps.

        Parameters
        ----------
        layer, key, value
            As for `append`.
        query : (B, H, S, D)
        cos, sin, positions
            As for `attnlib.rotary_embedding`. Default: nothing turns; behind what this layer has been given.
            Tables are cast to the cache's dtype; with int8 they promote with queries and keys.
        window
            How many tokens a query sees, itself included. Default, and at most: the cache's window.
        scale
            As for `attnlib.attention`.

        Returns
        -------
        (B, S, H, D) ndarray

        Raises
        ------
        IndexError, TypeError, ValueError
            As `append`, `attnlib.rotary_embedding` and `attnlib.attention`. The cache is then unchanged.
        """
        if (cos is None) != (sin is None):
            raise ValueError("KVCache.attend: cos and sin are given together, or not at all")
        window = self.attention_window(window)
        here = self._layer("attend", layer)
        if cos is not None and np.ndim(cos) != 3 and positions is None:
            positions = np.array(here.positions, np.int64)[:, None] + np.arange(query.shape[2])
        if self.holds_floats:
            here.check("key", key)
            return self.extend(
                layer,
                key.shape[2],
                partial(
                    cached_attention,
                    query,
                    key,
                    value,
                    cos=cos,
                    sin=sin,
                    positions=positions,
                    window=window,
                    scale=scale,
                ),
            )
        if cos is not None and sin is not None:
            query, key = (rotary_embedding(x, cos, sin, positions=positions) for x in (query, key))
        sides = None if window is None else (window - 1, None)
        attend: Callable[..., Any] = partial(attention, query, causal=True, window=sides, scale=scale)
        heads = self.add(layer, key, value, lambda k, v, lengths: attend(k, v, key_lengths=lengths))
        return np.ascontiguousarray(heads.swapaxes(1, 2))

    def add(
        self, layer: int, key: ArrayLike, value: ArrayLike, attend: Callable[..., NDArray[Any]]
    ) -> NDArray[Any]:
        """Call `attend` with what `append` returns, but have the tokens only if it raises nothing."""
        here = self._layer("add", layer)
        keys, values, new = here.checked(key, value, None)
        room = here.write(keys, values, new, self._limits)
        result = attend(*read_stores(room.stores, room.lengths_with(new)))
        here.keep(room, new)
        return result

    def attention_window(self, window: int | None) -> int | None:
        """Return how many tokens a query sees: `window`, which must fit into the cache's, or the cache's."""
        window = self.window if window is None else window
        if window is not None and not 1 <= window <= (self.window or window):
            raise ValueError(f"KVCache.attend: window must be from 1 to {self.window}, got {window}")
        return window

    @property
    def holds_floats(self) -> bool:
        """Whether keys and values are kept as they come, and not as int8."""
        return self.dtype != np.int8

    def extend(self, layer: int | None, count: int, write: Callable[..., NDArray[Any]]) -> NDArray[Any]:
        """Let a function write `count` new tokens of each sequence into the arrays of one layer, or of all.

        Parameters
        ----------
        layer, count
            Which one, or None for all; S, the number of tokens.
        write
            Called as ``write(key_cache, value_cache, lengths)``, like `functional.cached_attention`; for all
            layers with a list of such triples. The cache counts the new tokens once it has returned.

        Returns
        -------
        ndarray
            What `write` returns.

        Raises
        ------
        IndexError, TypeError, ValueError
            If there is no such layer, the cache is of int8, or `max_length` would be passed. The cache is
            then unchanged, as it is if `write` raises.
        """
        if not self.holds_floats:
            raise TypeError("KVCache.extend: a cache of int8 can only be appended to")
        layers = self._layers if layer is None else [self._layer("extend", layer)]
        new = [count] * self.batch_size
        rooms = [here.room(new, self._limits) for here in layers]
        places = [
            (*(store.data for store in room.stores), np.array(room.lengths, np.int64)) for room in rooms
        ]
        result = write(places) if layer is None else write(*places[0])
        for here, room in zip(layers, rooms, strict=True):
            here.keep(room, new)
        return result

    def read(self, layer: int) -> Kept:
        """Return keys, values and lengths of one layer, as `append` does, if there is such a layer."""
        return self._layer("read", layer).read()

    def truncate(self, length: ArrayLike) -> None:
        """Forget tokens after the first `length`, an integer or (B,): the rollback of speculation.

        Lengths count kept tokens, as `lengths` does. A sequence that is shorter stays as it is.

        Raises
        ------
        TypeError, ValueError
            If `length` is of another dtype or shape or negative, or a sequence would lack evicted tokens:
            of one that has lost some, ``window - 1`` must stay, all that the next query may read. The tokens
            of the last `append` can always be forgotten. The cache is then unchanged.
        """
        limit = whole_numbers("truncate: length", length, self.batch_size)
        check_truncation(limit, self._lengths, self._evicted, self.window)
        for layer in self._layers:
            layer.lengths = np.minimum(layer.lengths, limit).tolist()

    def undone_on_error(self, layer: int | None = None) -> UndoneOnError:
        """Make a context that takes back what its block adds to one layer, or to all, if it raises."""
        return UndoneOnError(self._layers, slice(None) if layer is None else slice(layer, layer + 1))

    def reorder(self, indices: ArrayLike) -> None:
        """Make sequence i what sequence ``indices[i]`` was (beams); B becomes ``len(indices)``.

        Where each stays what it is, nothing is copied.
        """
        rows = np.asarray(indices)
        if rows.ndim != 1 or rows.dtype.kind not in "iu":
            raise TypeError(f"KVCache.reorder: indices must be 1-D integers, got {rows.dtype} {rows.shape}")
        if ((rows < 0) | (rows >= self.batch_size)).any():
            raise ValueError(f"KVCache.reorder: indices must be in 0..{self.batch_size - 1}, got {rows}")
        if rows.tolist() == list(range(self.batch_size)):
            return
        rows = rows.astype(np.intp)
        self._layers = [layer.gathered(rows) for layer in self._layers]
        self.batch_size = len(rows)

    @classmethod
    def join(cls, caches: Sequence[KVCache]) -> KVCache:
        """Make one cache of all sequences of several, which must agree in everything else but the room."""
        if not caches:
            raise ValueError("KVCache.join: there are no caches")
        first = caches[0]
        for other in caches[1:]:
            if other._kind() != first._kind():
                raise ValueError(f"KVCache.join: caches differ: {first._kind()} and {other._kind()}")
        joined = object.__new__(cls)
        joined.__dict__.update(first.__dict__)
        joined.batch_size = sum(cache.batch_size for cache in caches)
        joined._layers = [
            KVLayer.stacked(layers) for layers in zip(*(cache._layers for cache in caches), strict=True)
        ]
        return joined

    def _kind(self) -> tuple[Any, ...]:
        sizes = self.num_layers, self.num_kv_heads, self.head_dim
        return *sizes, self.max_length, self.window, self.evict_by, self.dtype.name

    def fork(self, n: int) -> list[KVCache]:
        """Make `n` caches that go on from this one, sharing its arrays until one of them is written.

        Each layer is copied when it is first appended to, by whichever cache does so.
        """
        check_size("KVCache.fork", n=n)
        forks = []
        for _ in range(n):
            twin = object.__new__(KVCache)
            twin.__dict__.update(self.__dict__)
            twin._layers = [layer.fork() for layer in self._layers]
            forks.append(twin)
        return forks

    def reset(self) -> None:
        """Forget all tokens and keep the room for new ones."""
        for layer in self._layers:
            layer.lengths = layer.evicted = [0] * self.batch_size

    def save(self, path: str | PathLike[str]) -> None:
        """Write the valid part of the cache to `path`, an npz file without pickles, whole or not at all."""
        # Here, since most processes neither save nor load.
        from attnlib.nn.kv_cache_file import save_cache

        save_cache(self, Path(path))

    @classmethod
    def load(cls, path: str | PathLike[str]) -> KVCache:
        """Read what `save` has written; a file that is nothing of the kind is a ValueError."""
        from attnlib.nn.kv_cache_file import load_cache

        return load_cache(Path(path))

    @property
    def _limits(self) -> Limits:
        return Limits(self.max_length, self.window, self.evict_by)

    def _least(self, counts: list[list[int]]) -> NDArray[np.int64]:
        """Find for each sequence the least of the layers' counts."""
        if not counts:
            return np.zeros(self.batch_size, np.int64)
        return np.array([min(row) for row in zip(*counts, strict=True)], np.int64)

    @property
    def _lengths(self) -> NDArray[np.int64]:
        """Tokens kept of each sequence by each layer, (layers, B)."""
        return self._table([layer.lengths for layer in self._layers])

    @property
    def _evicted(self) -> NDArray[np.int64]:
        """Tokens evicted of each sequence by each layer, (layers, B)."""
        return self._table([layer.evicted for layer in self._layers])

    def _table(self, counts: list[list[int]]) -> NDArray[np.int64]:
        return np.array(counts, np.int64).reshape(self.num_layers, self.batch_size)

    def _layer(self, caller: str, layer: int) -> KVLayer:
        if not 0 <= layer < self.num_layers:
            raise IndexError(f"KVCache.{caller}: layer {layer} is not in a cache of {self.num_layers} layers")
        return self._layers[layer]
