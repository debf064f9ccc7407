"""How far quantising weights and inputs may move a product: half a step of each at worst."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from arrays import FLOAT32, epsilon
from numpy.typing import ArrayLike, NDArray

Float = NDArray[np.float64]


def row_steps(x: ArrayLike, group: int | None) -> Float:
    """The widest step of a row's (a group's) codes: its range over 255, or its largest size over 127.

    int8 widens the range to 0, so it is at most the sum of both sides; outliers only make the steps finer.
    """
    wide = oracle.float64(x)
    if group is None:
        low, high = np.minimum(wide.min(axis=-1), 0), np.maximum(wide.max(axis=-1), 0)
        return np.repeat(((high - low) / 255)[..., None], wide.shape[-1], axis=-1)
    steps = np.empty_like(wide)
    for first in range(0, wide.shape[-1], group):
        part = wide[..., first : first + group]
        steps[..., first : first + group] = np.abs(part).max(axis=-1, keepdims=True) / 127
    return steps


def balance_of(packed: Any) -> Float:
    """What the columns of an int8 weight's input are multiplied by, read from the pickled state."""
    state = packed.__getstate__()
    columns = packed.shape[1]
    return oracle.float64(state[4]).reshape(columns) if state[0] == "int8" else np.ones(columns)


def weight_error(weight: ArrayLike, packed: Any) -> Float:
    """How far an int8 weight may lie from what was packed: half a step, 127 of them the row's largest."""
    exact, balance = oracle.float64(weight), balance_of(packed)
    step = np.abs(exact / balance).max(axis=1, keepdims=True) / 127 * balance
    return 0.5001 * step + 1e-6 * np.abs(exact)


def input_error(x: ArrayLike, packed: Any, group: int | None) -> Float:
    """How far quantising the rows of x may move x @ weight.T: half a step of each value at worst."""
    weight, balance = oracle.float64(packed.unpack()), balance_of(packed)
    steps = row_steps(oracle.float64(x) * balance, group)
    # 0.501: the code of 0 is rounded as well, and the arithmetic of the steps is float32's.
    return 0.501 * steps @ np.abs(weight / balance).T


def rounding_error(x: ArrayLike, weight: ArrayLike, groups: int) -> Float:
    """float32 rounding of the scales and, for int4, of the sum over groups."""
    magnitude = np.abs(oracle.float64(x)) @ np.abs(oracle.float64(weight)).T
    largest = np.abs(oracle.float64(x)).max(-1, keepdims=True)
    return (8 + 2 * groups) * epsilon(FLOAT32) * (magnitude + largest)
