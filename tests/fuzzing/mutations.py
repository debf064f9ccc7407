"""Bytes of a file, changed as a disk, a careless program or somebody with bad intentions would."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

__all__ = ["mutate_bytes"]

Rng = np.random.Generator

# Sizes that overflow, wrap or ask for all the memory there is.
_INTERESTING = (0, 1, 2, 7, 127, 128, 255, 1 << 15, (1 << 16) - 1, 1 << 24, 1 << 31, (1 << 31) - 1)
_INTERESTING += ((1 << 32) - 1, 1 << 40, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, (1 << 64) - 8)


def _place(rng: Rng, data: bytes) -> int:
    """Choose a place: headers are at the beginning, and small beside the data."""
    if rng.random() < 0.5:
        return int(rng.integers(0, min(len(data), 256)))
    return int(rng.integers(0, len(data)))


def _flip_bits(rng: Rng, data: bytearray) -> None:
    for _ in range(int(rng.integers(1, 9))):
        data[_place(rng, data)] ^= 1 << int(rng.integers(8))


def _set_byte(rng: Rng, data: bytearray) -> None:
    data[_place(rng, data)] = int(rng.integers(256))


def _set_number(rng: Rng, data: bytearray) -> None:
    """Put an interesting number of 2, 4 or 8 bytes somewhere."""
    size = int(rng.choice([2, 4, 8]))
    place = _place(rng, data)
    number = int(rng.choice(np.array(_INTERESTING, object))) & ((1 << 8 * size) - 1)
    data[place : place + size] = number.to_bytes(size, "little")


def _change_size(rng: Rng, data: bytearray) -> None:
    """Find what could be a size, since it is none too large for the file, and make it another."""
    size = int(rng.choice([2, 4, 8]))
    for _ in range(40):
        place = _place(rng, data)
        number = int.from_bytes(data[place : place + size], "little")
        if 0 < number <= len(data) and place + size <= len(data):
            if rng.random() < 0.5:
                number = int(rng.choice(np.array(_INTERESTING, object)))
            else:
                number += int(rng.integers(-9, 10))
            data[place : place + size] = (number & ((1 << 8 * size) - 1)).to_bytes(size, "little")
            return


def _change_digits(rng: Rng, data: bytearray) -> None:
    """Replace a number that is written in digits."""
    start = _place(rng, data)
    found = re.compile(rb"-?[0-9]+").search(bytes(data[start : start + 4096]))
    if found:
        number = str(int(rng.choice(np.array((*_INTERESTING, -1, -(1 << 63)), object)))).encode()
        data[start + found.start() : start + found.end()] = number


def _truncate(rng: Rng, data: bytearray) -> None:
    del data[_place(rng, data) :]


def _delete(rng: Rng, data: bytearray) -> None:
    place = _place(rng, data)
    del data[place : place + int(rng.integers(1, 65))]


def _insert(rng: Rng, data: bytearray) -> None:
    place = _place(rng, data)
    data[place:place] = rng.bytes(int(rng.integers(1, 33)))


def _repeat(rng: Rng, data: bytearray) -> None:
    place, size = _place(rng, data), int(rng.integers(1, 129))
    data[place:place] = data[place : place + size] * int(rng.integers(1, 4))


def _swap(rng: Rng, data: bytearray) -> None:
    a, b, size = _place(rng, data), _place(rng, data), int(rng.integers(1, 33))
    if abs(a - b) >= size and max(a, b) + size <= len(data):
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]


def _append(rng: Rng, data: bytearray) -> None:
    data += rng.bytes(int(rng.integers(1, 65)))


_CHANGES: Sequence[Callable[[Rng, bytearray], None]] = (
    _flip_bits,
    _flip_bits,
    _set_byte,
    _set_number,
    _set_number,
    _change_size,
    _change_size,
    _change_size,
    _change_digits,
    _truncate,
    _delete,
    _insert,
    _repeat,
    _swap,
    _append,
)


def mutate_bytes(rng: Rng, data: bytes) -> bytes:
    """Change a file once or a few times."""
    changed = bytearray(data)
    while True:
        if not changed:
            return rng.bytes(int(rng.integers(0, 9)))
        _CHANGES[int(rng.integers(len(_CHANGES)))](rng, changed)
        if rng.random() < 0.5:
            return bytes(changed)
