"""Every operation on arrays, with random arguments: right, wrong, dirty and oddly laid out ones."""

from __future__ import annotations

import numpy as np

from ..calls import Call, Draw, compare
from ..operation_calls import OPERATIONS
from .base import Target

__all__ = ["Operations"]


class Operations(Target):
    """Draws an operation, valid arguments for it, and spoils some."""

    def case(self, rng: np.random.Generator) -> None:
        """Make one call, or rather two of it."""
        draw = Draw(rng)
        make = draw.pick(OPERATIONS)
        self.description = make.__name__
        call: Call = make(draw)
        choice = rng.random()
        if choice < 0.4:
            call.spoil(rng)
        elif choice < 0.6:
            call.soil(rng)
        self.description = str(call)
        try:
            compare(call, rng)
        finally:
            self.description = str(call)
