"""The weights of one kind of attention in a model, with the tokens that they are about.

Letters: L layers, H heads, Sq queries, Sk keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import index
from typing import Any, Literal, get_args

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attnlib.arrays import as_array

__all__ = ["AttentionMaps", "Kind"]

Kind = Literal["encoder", "decoder", "cross"]


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Attention weights per layer and head, and the tokens on both sides.

    Parameters
    ----------
    weights : (L, H, Sq, Sk) or (H, Sq, Sk), float
        How much each query attends to each key: rows of numbers from 0 to 1 that add up to 1, or to 0 for a
        query that attends to nothing. Three axes are one layer. Kept as float32.
    queries, keys
        The tokens, Sq and Sk of them. Default: their places, ``0``, ``1`` and so on; unless `kind` is
        ``"cross"``, `keys` are the queries if there are as many.
    kind
        ``"encoder"`` (default): each token looks at all of its own text. ``"decoder"``: at those before it.
        ``"cross"``: from what a decoder writes to what an encoder has read.
    layers
        The layers' numbers in the model. Default ``0`` to ``L - 1``.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> from attnlib import viz
    >>> query = np.random.default_rng(0).standard_normal((4, 3, 8))
    >>> out, weights = al.attention(query, query, query, causal=True, return_weights=True)
    >>> maps = viz.AttentionMaps(weights, ["the", "cat", "sat"], kind="decoder")
    >>> maps.weights.shape, maps.layer(0).shape
    ((1, 4, 3, 3), (4, 3, 3))
    """

    weights: NDArray[Any]
    queries: Sequence[str] = ()
    keys: Sequence[str] = ()
    kind: Kind = "encoder"
    layers: Sequence[int] = ()

    def __post_init__(self) -> None:
        weights = as_array("AttentionMaps: weights", self.weights)
        if weights.dtype.kind != "f" and weights.dtype.type is not ml_dtypes.bfloat16:
            raise TypeError(f"AttentionMaps: weights must be floats, got {weights.dtype}")
        if weights.ndim == 3:
            weights = weights[None]
        if weights.ndim != 4:
            raise ValueError(
                f"AttentionMaps: weights must have shape (L, H, Sq, Sk) or (H, Sq, Sk), got {weights.shape}"
            )
        weights = weights.astype(np.float32, copy=False)
        # A sum of many rounded weights may be a little more than 1, and so may one of them.
        if weights.size and not (weights.min() >= 0 and weights.max() <= 1.01):
            raise ValueError(
                f"AttentionMaps: weights must be from 0 to 1, got {weights.min()} to {weights.max()}"
            )
        if self.kind not in get_args(Kind):
            raise ValueError(f"AttentionMaps: kind must be one of {get_args(Kind)}, got {self.kind!r}")
        count, _, queries, keys = weights.shape
        left = _tokens("queries", self.queries, queries)
        right = _tokens("keys", self.keys, keys, left if self.kind != "cross" else None)
        layers = _numbers(self.layers) or tuple(range(count))
        if len(layers) != count or len(set(layers)) != count:
            raise ValueError(f"AttentionMaps: layers {layers} do not number {count} layers")
        for name, value in (("weights", weights), ("queries", left), ("keys", right), ("layers", layers)):
            object.__setattr__(self, name, value)

    @property
    def heads(self) -> int:
        """The number of heads H."""
        return int(self.weights.shape[1])

    def layer(self, number: int) -> NDArray[np.float32]:
        """Return the weights (H, Sq, Sk) of the layer of this number.

        Raises
        ------
        ValueError
            If there is no such layer.
        """
        if number not in self.layers:
            raise ValueError(f"AttentionMaps: there is no layer {number}, but {list(self.layers)}")
        weights: NDArray[np.float32] = self.weights[self.layers.index(number)]
        return weights

    def __repr__(self) -> str:
        count, heads, queries, keys = self.weights.shape
        return f"AttentionMaps({self.kind}: {count} layers, {heads} heads, {queries} queries, {keys} keys)"


def _numbers(layers: Sequence[int]) -> tuple[int, ...]:
    try:
        return tuple(map(index, layers))
    except TypeError:
        raise TypeError(f"AttentionMaps: layers must be integers, got {layers!r}") from None


def _tokens(
    name: str, tokens: Sequence[str], count: int, default: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """Check the tokens; if there are none, take the default where it has as many, or their places."""
    if (
        isinstance(tokens, str)
        or not isinstance(tokens, Iterable)
        or not all(isinstance(token, str) for token in tokens)
    ):
        raise TypeError(f"AttentionMaps: {name} must be a sequence of str, got {tokens!r}")
    if not len(tokens):
        return default if default is not None and len(default) == count else tuple(map(str, range(count)))
    if len(tokens) != count:
        raise ValueError(f"AttentionMaps: there are {len(tokens)} {name}, but weights of {count}")
    return tuple(tokens)
