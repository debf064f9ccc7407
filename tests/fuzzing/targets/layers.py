"""Layers and caches: random sizes and options, wrong ones among them."""

from __future__ import annotations

import numpy as np

from ..calls import Draw
from ..kv_cache_walk import walk
from ..layer_calls import LAYERS, use_layer
from .base import Target

__all__ = ["Layers"]


class Layers(Target):
    """Makes a layer and calls it, or takes a cache through a few steps."""

    def case(self, rng: np.random.Generator) -> None:
        """Use one layer or one cache."""
        draw = Draw(rng)
        # What each step does, for a report.
        self.notes: list[str] = []
        try:
            if draw.chance(0.3):
                walk(draw, self.notes)
            else:
                use_layer(draw, draw.pick(LAYERS), self.notes)
        finally:
            self.description = "; ".join(self.notes)
