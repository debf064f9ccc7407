"""One layer of a `KVCache`: its stores, and how many tokens of each sequence they hold.

Counts are lists of plain integers, which are replaced and never changed: each layer of each token asks for
them, and small arrays are slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array
from attnlib.nn.kv_checks import check_tokens, whole_numbers
from attnlib.nn.kv_pair import Pair, gathered_pair, stacked_pairs
from attnlib.nn.kv_room import Limits, Room, make_room

__all__ = ["KVLayer", "Kept", "UndoneOnError", "read_stores"]

Kept = tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]


class KVLayer:
    """Keys and values of one layer.

    Parameters
    ----------
    stores
        Where they are.
    lengths, evicted
        How many tokens of each sequence are kept, and how many older ones are not any more.
    """

    def __init__(self, stores: Pair, lengths: list[int], evicted: list[int]) -> None:
        self.stores = stores
        self.lengths = lengths
        self.evicted = evicted
        # With another cache, which still reads the stores: they are copied before they are written.
        self.shared = False

    @property
    def positions(self) -> list[int]:
        """Where the next token of each sequence stands."""
        return [kept + gone for kept, gone in zip(self.lengths, self.evicted, strict=True)]

    def check(self, name: str, tokens: NDArray[Any]) -> None:
        """Check that new keys or values are (B, G, S, D), of a dtype that the stores take."""
        check_tokens(name, tokens, self.stores[0].data)

    def checked(
        self, key: ArrayLike, value: ArrayLike, new_lengths: ArrayLike | None
    ) -> tuple[NDArray[Any], NDArray[Any], list[int]]:
        """Return new keys and values, and how many tokens of each sequence are real, if all of it fits."""
        keys, values = as_array("KVCache.append: key", key), as_array("KVCache.append: value", value)
        self.check("key", keys)
        self.check("value", values)
        batch, count = len(self.lengths), keys.shape[2]
        if values.shape[2] != count:
            raise ValueError(f"KVCache.append: key {keys.shape} and value {values.shape} differ")
        if new_lengths is None:
            return keys, values, [count] * batch
        return keys, values, whole_numbers("append: new_lengths", new_lengths, batch, count).tolist()

    def room(self, new: list[int], limits: Limits) -> Room:
        """Find where `new` tokens of each sequence go, or make room for them; nothing changes yet."""
        capacity = self.stores[0].data.shape[2]
        if self.shared or max(self.lengths, default=0) + max(new, default=0) > capacity:
            return make_room(self.stores, self.lengths, new, limits)
        return Room(self.stores, self.lengths)

    def write(self, key: NDArray[Any], value: NDArray[Any], new: list[int], limits: Limits) -> Room:
        """Write `new` tokens of (B, G, S, D) behind those that are kept; only `keep` counts them."""
        room = self.room(new, limits)
        for store, array in zip(room.stores, (key, value), strict=True):
            if len({*room.lengths}) == len({*new}) == 1:
                store.write(slice(None), room.lengths[0], array[:, :, : new[0]])
            else:
                for row, (start, count) in enumerate(zip(room.lengths, new, strict=True)):
                    store.write(row, start, array[row, :, :count])
        return room

    def keep(self, room: Room, new: list[int]) -> None:
        """Have what has been written to `room`: the end of a step that nothing refused."""
        if room.stores is not self.stores:
            positions = self.positions
            self.stores = room.stores
            self.shared = False
            self.evicted = [place - kept for place, kept in zip(positions, room.lengths, strict=True)]
        self.lengths = room.lengths_with(new)

    def read(self) -> Kept:
        """Return keys, values and lengths, as `KVCache.append` does."""
        return read_stores(self.stores, self.lengths)

    def twin(self) -> KVLayer:
        """Copy the layer, but not its stores; `copy.copy` takes ten times as long, and each token asks."""
        twin = KVLayer(self.stores, self.lengths, self.evicted)
        twin.shared = self.shared
        return twin

    def fork(self) -> KVLayer:
        """Make a layer that goes on from this one and shares its stores until either is written."""
        self.shared = True
        return self.twin()

    def gathered(self, rows: NDArray[np.intp]) -> KVLayer:
        """Copy these sequences, any of them any number of times."""
        places = rows.tolist()
        lengths, evicted = ([counts[row] for row in places] for counts in (self.lengths, self.evicted))
        return KVLayer(gathered_pair(self.stores, rows), lengths, evicted)

    @classmethod
    def stacked(cls, layers: Sequence[KVLayer]) -> KVLayer:
        """Copy the sequences of several layers into one."""
        lengths = [length for layer in layers for length in layer.lengths]
        evicted = [gone for layer in layers for gone in layer.evicted]
        return cls(stacked_pairs([layer.stores for layer in layers]), lengths, evicted)


class UndoneOnError:
    """A context that brings this part of `layers` back to what it was, should its block add tokens and raise.

    Tokens that were evicted for the new ones are there again. The block may append and attend, not reorder. A
    class, since a generator takes three times as long, and each layer of each token asks for it.
    """

    def __init__(self, layers: list[KVLayer], part: slice) -> None:
        self._layers = layers
        self._part = part

    def __enter__(self) -> None:
        # What layers keep is replaced and never changed, and tokens are written behind it or to new stores:
        # so it is all still there. The old stores of layers that grow are held until the block is left.
        self._before = [layer.twin() for layer in self._layers[self._part]]

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is not None:  # an interrupt, too
            self._layers[self._part] = self._before


def read_stores(stores: Pair, lengths: list[int]) -> Kept:
    """Return keys and values up to the greatest length, and the lengths."""
    longest = max(lengths, default=0)
    key, value = stores
    return key.read(longest), value.read(longest), np.array(lengths, np.int64)
