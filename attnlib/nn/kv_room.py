"""Room for new tokens in a layer of a `KVCache`: old ones are evicted, arrays grow."""

from __future__ import annotations

from typing import NamedTuple

from attnlib.nn.kv_pair import Pair, moved_pair

__all__ = ["Limits", "Room", "make_room"]


class Limits(NamedTuple):
    """How much of a sequence is kept: `max_length`, `window` and `evict_by` of `KVCache`."""

    max_length: int | None
    window: int | None
    evict_by: int


class Room(NamedTuple):
    """Stores with room for new tokens, and how many older ones of each sequence they hold."""

    stores: Pair
    lengths: list[int]

    def lengths_with(self, new: list[int]) -> list[int]:
        """Count the `new` tokens of each sequence, too."""
        return [length + count for length, count in zip(self.lengths, new, strict=True)]


def make_room(stores: Pair, lengths: list[int], new: list[int], limits: Limits) -> Room:
    """Copy what is kept of `lengths` tokens to where `new` ones have room behind them.

    The old stores stay as they are, so that a step that is refused later has changed nothing: attention
    checks its arguments after this, and may be interrupted. To move tokens within the stores would save the
    memory of one layer for a moment, and evict tokens for steps that are never taken.

    Raises
    ------
    ValueError
        If more than `max_length` tokens would have to be kept.
    """
    capacity = stores[0].data.shape[2]
    kept = lengths
    needed = _longest(lengths, new)
    if limits.window is not None and needed > capacity:
        # The first new query reads window - 1 older tokens.
        unread = [max(length - limits.window + 1, 0) for length in lengths]
        kept = [
            length - old // limits.evict_by * limits.evict_by
            for length, old in zip(lengths, unread, strict=True)
        ]
        needed = _longest(kept, new)
    most = limits.max_length
    if most is not None and needed > most:
        raise ValueError(f"KVCache.append: {needed} tokens do not fit in max_length {most}")
    room = capacity
    if needed > capacity:
        room = max(needed, 2 * capacity)
        room = room if most is None else min(room, most)
    first = [length - rest for length, rest in zip(lengths, kept, strict=True)]
    return Room(moved_pair(stores, room, first, lengths), kept)


def _longest(lengths: list[int], new: list[int]) -> int:
    return max((length + more for length, more in zip(lengths, new, strict=True)), default=0)
