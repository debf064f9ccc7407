"""Attention small enough to check by hand: which keys each query may read, and with what weight."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Example:
    """One head (2-D) with the weights it must give and `total`, the exponential of its lse."""

    name: str
    weights: Array  # (Sq, Sk)
    total: Array  # (Sq,)
    options: dict[str, Any] = field(default_factory=dict)
    query: Array | None = None
    key: Array | None = None
    value: Array | None = None

    def __post_init__(self) -> None:
        """Zero queries unless given: every score is then what the options make of zero."""
        queries, keys = self.weights.shape
        defaults = (("query", np.zeros((queries, 2))), ("key", np.ones((keys, 2))))
        for name, default in (*defaults, ("value", np.arange(keys * 3.0).reshape(keys, 3) + 1)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)


def even(*allowed: list[int], keys: int) -> tuple[Array, Array]:
    """Equal weights over the keys that each query may read, and their number."""
    weights = np.zeros((len(allowed), keys))
    for row, columns in zip(weights, allowed, strict=True):
        row[columns] = 1 / max(len(columns), 1)
    return weights, np.array([float(len(columns)) for columns in allowed])


LN2 = float(np.log(2))
EXAMPLES = (
    Example("uniform", *even([0, 1, 2], [0, 1, 2], keys=3)),
    Example("causal square", *even([0], [0, 1], [0, 1, 2], keys=3), {"causal": True}),
    Example("causal, last query sees last key", *even([0, 1, 2], [0, 1, 2, 3], keys=4), {"causal": True}),
    Example("causal, more queries than keys", *even([], [0], [0, 1], keys=2), {"causal": True}),
    Example("causal from offset 0", *even([0], [0, 1], keys=4), {"causal": True, "query_offset": 0}),
    Example("causal before the keys", *even([], [], [0], keys=2), {"causal": True, "query_offset": -2}),
    Example("window", *even([0, 1], [0, 1, 2], [1, 2], keys=3), {"window": (1, 1)}),
    Example("window open on the right", *even([0, 1, 2], [0, 1, 2], [1, 2], keys=3), {"window": (1, None)}),
    Example("window open on the left", *even([0], [0, 1], [0, 1, 2], keys=3), {"window": (None, 0)}),
    Example("window at an offset", *even([2, 3], [3], keys=4), {"window": (2, 0), "query_offset": 4}),
    Example("key lengths", *even([0, 1], [0, 1], keys=4), {"key_lengths": 2}),
    Example(
        "key lengths align the positions", *even([0], [0, 1], keys=4), {"key_lengths": 2, "causal": True}
    ),
    Example("no keys", *even([], [], keys=4), {"key_lengths": 0}),
    Example(
        "mask",
        *even([1], [], [0, 2], keys=3),
        {"mask": [[False, True, False], [False] * 3, [True, False, True]]},
    ),
    Example(
        "bias, -inf removes",
        np.array([[0.0, 2 / 3, 1 / 3]]),
        np.array([3.0]),
        {"bias": [[-np.inf, LN2, 0.0]]},
    ),
    Example(
        "ALiBi",
        np.array([[4, 2, 1], [2, 4, 2], [1, 2, 4]]) / np.array([[7], [8], [7]]),
        np.array([7, 8, 7]) / 4,
        {"alibi_slopes": [LN2]},
    ),
    Example("sink", np.full((1, 3), 1 / 5), np.array([5.0]), {"sinks": [LN2]}),
    Example("sink without keys", np.zeros((1, 3)), np.array([0.0]), {"sinks": [LN2], "key_lengths": 0}),
    Example(
        "scale",
        np.array([[2 / 3, 1 / 3]]),
        np.array([3.0]),
        {"scale": LN2},
        query=np.array([[1.0]]),
        key=np.array([[1.0], [0.0]]),
    ),
    Example(
        "default scale",
        np.array([[2 / 3, 1 / 3]]),
        np.array([3.0]),
        query=np.full((1, 4), LN2 / 2),
        key=np.array([[1.0] * 4, [0.0] * 4]),
    ),
    Example(
        "softcap before bias",
        np.array([[np.exp(2 * np.tanh(0.5) + 3.0), 1.0]]) / (np.exp(2 * np.tanh(0.5) + 3.0) + 1),
        np.array([np.exp(2 * np.tanh(0.5) + 3.0) + 1]),
        {"scale": 1.0, "softcap": 2.0, "bias": [[3.0, 0.0]]},
        query=np.array([[1.0]]),
        key=np.array([[1.0], [0.0]]),
    ),
)
