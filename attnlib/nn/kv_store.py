"""The arrays of a `KVCache`: keys or values of one layer, as they are or in 8 bits."""

from __future__ import annotations

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

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return self.data.nbytes + (0 if self.scales is None else self.scales.nbytes)
