"""The arrays of a `KVCache`: keys or values of one layer, as they are or in 8 bits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["KVStore"]


class KVStore:
    """Keys or values of one layer, (B, G, capacity, D); int8 codes have float32 scales (B, G, capacity).

    A scale is ``max|x| / 127`` of one token and head, so an element is off by at most half a scale. A token
    with NaN or infinity has no scale: it is read as NaN in that head, and touches no other.
    """

    def __init__(self, data: NDArray[Any], scales: NDArray[np.float32] | None) -> None:
        self.data = data
        self.scales = scales

    @classmethod
    def empty(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> KVStore:
        """Make arrays of zeros of `shape`, (B, G, capacity, D)."""
        scales = np.zeros(shape[:-1], np.float32) if dtype == np.int8 else None
        return cls(np.zeros(shape, dtype), scales)

    @classmethod
    def pair(cls, shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[KVStore, KVStore]:
        """Make stores of zeros for keys and for values that lie in one block of memory.

        NumPy asks for huge pages for arrays of 4 MB and more, and attention reads what lies on these faster:
        1500 tokens and 6 heads of 64 in 207 us instead of 326 on one thread, 151 instead of 194 on two.
        """
        both = np.zeros((2, *shape), dtype)
        scales = np.zeros((2, *shape[:-1]), np.float32) if dtype == np.int8 else (None, None)
        return cls(both[0], scales[0]), cls(both[1], scales[1])

    def write(self, rows: int | slice, start: int, tokens: NDArray[Any]) -> None:
        """Put tokens ([B,] G, S, D) into the places of one sequence, or of some, from `start` on."""
        place = (rows, slice(None), slice(start, start + tokens.shape[-2]))
        if self.scales is None:
            self.data[place] = tokens
            return
        exact = tokens.astype(np.float32)
        scale = np.abs(exact).max(axis=-1, initial=0.0) / np.float32(127)
        finite = np.isfinite(scale)
        # Where the scale is 0, or subnormal, codes may leave their range or be no numbers at all.
        with np.errstate(all="ignore"):
            codes = np.clip(np.rint(exact / scale[..., None]), -127, 127)
        codes[~np.isfinite(codes)] = 0
        self.data[place] = codes.astype(np.int8)
        self.scales[place] = np.where(finite, scale, np.float32(np.nan))

    def read(self, length: int) -> NDArray[Any]:
        """Return the first `length` places, (B, G, length, D): a view, or float32 made of codes."""
        view = self.data[:, :, :length]
        return view if self.scales is None else view * self.scales[:, :, :length, None]

    def resized(self, capacity: int, kept: int) -> KVStore:
        """Copy the first `kept` tokens into new arrays of `capacity`."""
        shape = (*self.data.shape[:2], capacity, self.data.shape[3])
        new = KVStore.empty(shape, self.data.dtype)
        new.data[:, :, :kept] = self.data[:, :, :kept]
        if new.scales is not None and self.scales is not None:
            new.scales[:, :, :kept] = self.scales[:, :, :kept]
        return new

    def rows(self, indices: NDArray[np.intp]) -> KVStore:
        """Copy these sequences, any of them any number of times."""
        return KVStore(self.data[indices], None if self.scales is None else self.scales[indices])

    @classmethod
    def stacked(cls, stores: Sequence[KVStore]) -> KVStore:
        """Put the sequences of several stores into one, with the room of the largest."""
        capacity = max(store.data.shape[2] for store in stores)
        shape = (sum(len(store.data) for store in stores), stores[0].data.shape[1], capacity)
        whole = cls.empty((*shape, stores[0].data.shape[3]), stores[0].data.dtype)
        start = 0
        for store in stores:
            place = np.s_[start : start + len(store.data), :, : store.data.shape[2]]
            whole.data[place] = store.data
            if whole.scales is not None and store.scales is not None:
                whole.scales[place] = store.scales
            start += len(store.data)
        return whole

    def drop_first(self, row: int, count: int, length: int) -> None:
        """Move tokens ``count..length`` of one sequence to the front (NumPy minds the overlap)."""
        for array in (self.data, self.scales):
            if array is not None:
                array[row, :, : length - count] = array[row, :, count:length]

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.data.nbytes + (0 if self.scales is None else self.scales.nbytes)
