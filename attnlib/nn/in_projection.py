"""The weights that make queries, keys and values, as one product or as several."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.functional import PackedWeight, pack_weight
from attnlib.nn.module import Parameter, packed_shapes

__all__ = ["InProjectionParameter"]


class InProjectionParameter(Parameter[tuple[PackedWeight, ...]]):
    """The weights that make queries, keys and values, (3 E, E), packed as one product.

    Self-attention wants them as one. The first call in which the keys come from elsewhere than the queries
    cuts them, and cut they stay: a layer is used one way, and nothing is then kept twice. The results have
    the same bits either way.
    """

    def cut(self, pieces: int) -> tuple[PackedWeight, ...]:
        """Return the weights in at least 1 piece (all), 2 (query; key and value) or 3 (one each)."""
        value = self.value  # once: another thread may cut it at the same time
        if len(value) < pieces:
            size = self.shape[0] // 3
            third = len(value) == 2  # the keys and values are apart from the queries already
            whole = value[-1]
            edges = [0, size, 2 * size] if third else [0, size, 3 * size]
            if pieces == 3 and not third:
                edges.insert(2, 2 * size)
            cut = tuple(whole.rows(start, stop) for start, stop in pairwise(edges))
            self._held = value = (value[0], *cut) if third else cut
        return value

    def hold(self, pieces: tuple[PackedWeight, ...]) -> None:
        """Take the pieces, cut as they are."""
        self._held = pieces

    def accepts(self, pieces: tuple[Any, ...]) -> bool:
        """Return whether `pieces` are the weights, whole or cut."""
        rows, columns = self.shape
        size = rows // 3
        cuts = ([rows], [size, 2 * size], [size, size, size])
        return packed_shapes(pieces) in [[(part, columns) for part in cut] for cut in cuts]

    def array(self) -> NDArray[Any]:
        """Unpack the weights of query, key and value below one another."""
        return np.concatenate([piece.unpack() for piece in self.value])

    def _prepare(self, array: NDArray[Any]) -> tuple[PackedWeight, ...]:
        return (pack_weight(array, dtype=self._dtype),)
