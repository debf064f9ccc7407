"""Nobody times garbage: every way of every engine must give the same result before it is timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from engines.engine import Call
from measure import measure_turns
from numpy.typing import NDArray

__all__ = ["Disagreement", "check", "fastest"]

# Of the largest result. Some hundreds of float32's eps: rounding, and peers' approximations, stay well
# below; how accurate attnlib is, its tests say.
TOLERANCE = 5e-5

# Blocks that find an engine's fastest way are short and few: ways that are near one another may be mistaken
# for each other, with as little effect.
_ROTATIONS, _SECONDS, _REST = 2, 0.1, 0.1


class Disagreement(Exception):
    """An engine's result is not what the others' is."""


def check(name: str, calls: Sequence[Call], expected: NDArray[Any] | None) -> NDArray[Any]:
    """Compare the results of all calls with what is expected, or else with the first one's; return that.

    Raises
    ------
    Disagreement
        If a result has another shape, a NaN, or differs by more than `TOLERANCE`.
    """
    for call in calls:
        found = call.array(call.run())
        if expected is None:
            expected = np.array(found)
        if found.shape != expected.shape:
            raise Disagreement(f"{name}, {call.way}: shape {found.shape} instead of {expected.shape}")
        error = float(np.abs(found - expected).max() / np.abs(expected).max())
        if not error <= TOLERANCE:
            raise Disagreement(f"{name}, {call.way}: differs by {error:.1e} of the largest result")
    assert expected is not None
    return expected


def fastest(calls: Sequence[Call]) -> Call:
    """Return the call that takes least time, by a short trial."""
    if len(calls) == 1:
        return calls[0]
    functions: list[Callable[[], Any]] = [call.run for call in calls]
    timings = measure_turns(functions, rotations=_ROTATIONS, seconds=_SECONDS, rest=_REST)
    best = min(range(len(calls)), key=lambda index: timings[index].seconds)
    return calls[best]
