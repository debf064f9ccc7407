"""Where a token stands: attention sees a set, and order has to be told to it. Four ways to do so.

`PositionalEncoding` and `LearnedPositionalEncoding` add a vector for the place to each token.
`alibi_slopes` and `RelativePositionBias` leave the tokens alone and add to the scores what the distance of
query and key says. (The fifth, `attnlib.rotary_embedding`, turns queries and keys.)

Letters: B batch, S tokens, E d_model, H heads, Sq queries, Sk keys.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from attnlib.functional import sinusoidal_encoding
from attnlib.nn.initialisers import normal
from attnlib.nn.module import ArrayParameter, Module, as_float_array, check_size

__all__ = ["LearnedPositionalEncoding", "PositionalEncoding", "RelativePositionBias", "alibi_slopes"]


class PositionalEncoding(Module):
    """Add sines and cosines of the position (Vaswani et al., 2017, arXiv:1706.03762).

    Each pair of features turns with the position like the hand of a clock, the first in 2 pi tokens, the
    last in nearly ``2 pi * base``. So each place has a vector of its own, near places have similar ones, and
    the vector k places on is the same rotation of each pair wherever one starts.

    There are no parameters.

    Parameters
    ----------
    d_model
        Size E of a token.
    max_len
        How many positions there are; their table is made once. Default 5000.
    base
        Positive; see `attnlib.sinusoidal_encoding`. Default 10000.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.PositionalEncoding(4)
    >>> whole = layer(np.zeros((3, 4), np.float32))
    >>> whole[:2].round(2)
    array([[0.  , 1.  , 0.  , 1.  ],
           [0.84, 0.54, 0.01, 1.  ]], dtype=float32)

    A decoder that gets one token at a time says where it stands:

    >>> bool((layer(np.zeros((1, 4), np.float32), offset=2) == whole[2:]).all())
    True
    """

    def __init__(self, d_model: int, max_len: int = 5000, *, base: float = 10000.0) -> None:
        check_size("PositionalEncoding", d_model=d_model, max_len=max_len)
        if not (base > 0 and np.isfinite(base)):
            raise ValueError(f"PositionalEncoding: base must be positive and finite, got {base}")
        self.d_model = d_model
        self.max_len = max_len
        self.base = base

    def __call__(self, x: ArrayLike, *, offset: ArrayLike = 0) -> NDArray[Any]:
        """Add the encoding of positions ``offset`` to ``offset + S - 1``.

        Parameters
        ----------
        x : (..., S, E) float32, float64, float16 or bfloat16
        offset : integer or (B,) integers
            Position of the first token, of all sequences or of each. Default 0.

        Returns
        -------
        ndarray of the shape and dtype of `x`
            float16 and bfloat16 are added in float32 and rounded once.

        Raises
        ------
        TypeError
            If `x` has another dtype or `offset` is not integer.
        ValueError
            If the shapes do not fit, or a position is outside 0 to ``max_len - 1``.
        """
        tokens = as_float_array("PositionalEncoding", "x", x)
        wide = "float64" if tokens.dtype == np.float64 else "float32"
        where = _places("PositionalEncoding", tokens, offset, self.max_len, self.d_model)
        total: NDArray[Any] = (
            tokens.astype(wide, copy=False) + _sinusoids(self.max_len, self.d_model, self.base, wide)[where]
        )
        return total.astype(tokens.dtype.newbyteorder("="), copy=False)


@lru_cache(maxsize=4)
def _sinusoids(length: int, features: int, base: float, dtype: str) -> NDArray[Any]:
    """Make a table once for all layers; it is not part of a layer, which would copy and pickle it."""
    table = sinusoidal_encoding(length, features, base=base, dtype=dtype)
    table.flags.writeable = False
    return table


class LearnedPositionalEncoding(Module):
    """Add a learned vector for each position (Gehring et al., 2017, arXiv:1705.03122; BERT and GPT-2).

    It knows no position beyond the last that it was trained on.

    Parameters
    ----------
    d_model
        Size E of a token.
    max_len
        How many positions there are. Default 512.
    rng
        Draw the table from this generator, now. By default it is drawn when first used, unless
        `load_state_dict` brings it. It is normal with a standard deviation of 0.02, as in BERT.

    Attributes
    ----------
    weight : (max_len, E)

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.LearnedPositionalEncoding(2, 3)
    >>> layer.load_state_dict({"weight": np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])})
    >>> layer(np.zeros((2, 2)), offset=1)
    array([[2., 3.],
           [4., 5.]])
    """

    def __init__(self, d_model: int, max_len: int = 512, *, rng: np.random.Generator | None = None) -> None:
        check_size("LearnedPositionalEncoding", d_model=d_model, max_len=max_len)
        self.d_model = d_model
        self.max_len = max_len
        self.weight = ArrayParameter((max_len, d_model), _small, rng)

    def __call__(self, x: ArrayLike, *, offset: ArrayLike = 0) -> NDArray[Any]:
        """Add the vectors of positions ``offset`` to ``offset + S - 1``.

        Parameters
        ----------
        x : (..., S, E) float32, float64, float16 or bfloat16
        offset : integer or (B,) integers
            Position of the first token, of all sequences or of each. Default 0.

        Returns
        -------
        ndarray of the shape of `x`
            In the dtype that `x` and the table promote to.

        Raises
        ------
        TypeError
            If `x` has another dtype or `offset` is not integer.
        ValueError
            If the shapes do not fit, or a position is outside 0 to ``max_len - 1``.
        """
        tokens = as_float_array("LearnedPositionalEncoding", "x", x)
        where = _places("LearnedPositionalEncoding", tokens, offset, self.max_len, self.d_model)
        total: NDArray[Any] = tokens + self.weight.value[where]
        return total


def _small(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[Any]:
    table: NDArray[Any] = normal(rng, shape) * np.float32(0.02)
    return table


def _places(
    layer: str, x: NDArray[Any], offset: ArrayLike, positions: int, features: int
) -> slice | NDArray[np.integer[Any]]:
    """Check `x` and `offset`; return which rows of a table go with the tokens: (S,) or (..., S)."""
    if x.ndim < 2 or x.shape[-1] != features:
        raise ValueError(f"{layer}: x has shape {x.shape}, expected (..., S, {features})")
    batch, length = x.shape[:-2], x.shape[-2]
    first = np.asarray(offset)
    if first.dtype.kind not in "iu" and first.size:
        raise TypeError(f"{layer}: offset must be integer, got {first.dtype}")
    if first.ndim and first.shape != batch:
        raise ValueError(f"{layer}: offset has shape {first.shape}, expected () or {batch}")
    low, high = (int(first.min()), int(first.max())) if first.size else (0, 0)
    if low < 0:
        raise ValueError(f"{layer}: offset must not be negative, got {low}")
    if length and high + length > positions:
        raise ValueError(
            f"{layer}: x of {length} tokens from offset {high} on ends at position {high + length - 1}, "
            f"outside the max_len of {positions} positions"
        )
    if not first.ndim:
        return slice(low, low + length)
    return first.astype(np.intp)[..., None] + np.arange(length)


def alibi_slopes(num_heads: int) -> NDArray[np.float64]:
    """Make the slopes of ALiBi (Press et al., "Train short, test long", 2022, arXiv:2108.12409).

    Attention with linear biases takes ``slope * distance`` off a score: a steep head looks at its
    neighbours, a flat one far, and no distance is new to it. For H heads, H a power of two, the slopes are
    the geometric sequence that begins at its own ratio, ``2**(-8 / H)``, and ends at ``2**-8``. For other H
    they are those of the power P below, then every second one of those of 2 P, as in the authors' code.

    Parameters
    ----------
    num_heads
        Number of heads H.

    Returns
    -------
    (H,) ndarray of float64
        For the `alibi_slopes` of `attnlib.attention`, which does not take its dtype from them.

    Raises
    ------
    TypeError, ValueError
        If `num_heads` is not an integer of at least 0.

    Examples
    --------
    >>> from attnlib import nn
    >>> nn.alibi_slopes(4)
    array([0.25      , 0.0625    , 0.015625  , 0.00390625])
    >>> nn.alibi_slopes(3)
    array([0.0625    , 0.00390625, 0.25      ])
    """
    check_size("alibi_slopes", num_heads=num_heads)
    if num_heads == 0:
        return np.empty(0)
    power = 1 << (int(num_heads).bit_length() - 1)
    between = np.arange(1, 2 * (num_heads - power), 2) / 2
    slopes: NDArray[np.float64] = np.exp2(-8 / power * np.concatenate([np.arange(1, power + 1), between]))
    return slopes


class RelativePositionBias(Module):
    """The relative position bias of T5 (Raffel et al., 2020, arXiv:1910.10683): by head and distance.

    Distances share *buckets*. Half of the buckets of a direction hold one distance each, 0, 1, 2 and so on;
    the others grow geometrically up to `max_distance`, and the last holds all that is farther. Near, every
    step counts; far, only the order of magnitude does; and no text is too long.

    Parameters
    ----------
    num_buckets
        Buckets in all; 32 in T5.
    num_heads
        Number of heads H.
    max_distance
        Where the last bucket would end: it holds all distances from there on too. Default 128.
    bidirectional
        True (default), for an encoder: half of the buckets for keys at or before the query, half for those
        after it. False, for a causal decoder: all for keys at or before it; those after it get the bias of
        distance 0.
    rng
        Draw the table from this generator, now. By default it is drawn when first used, unless
        `load_state_dict` brings it. It is standard normal, as an `Embedding`.

    Attributes
    ----------
    weight : (num_buckets, H)
        In T5's files ``...relative_attention_bias.weight``.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> from attnlib import nn
    >>> layer = nn.RelativePositionBias(8, 1, max_distance=8)
    >>> layer.load_state_dict({"weight": np.arange(8.0)[:, None]})
    >>> layer(4)[0]
    array([[0., 5., 6., 6.],
           [1., 0., 5., 6.],
           [2., 1., 0., 5.],
           [2., 2., 1., 0.]])
    >>> query = np.ones((1, 4, 2))
    >>> al.attention(query, query, query, bias=layer(4)).shape
    (1, 4, 2)
    """

    def __init__(
        self,
        num_buckets: int,
        num_heads: int,
        max_distance: int = 128,
        bidirectional: bool = True,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_size(
            "RelativePositionBias", num_buckets=num_buckets, num_heads=num_heads, max_distance=max_distance
        )
        directions = 2 if bidirectional else 1
        if num_buckets % directions or num_buckets < 2 * directions:
            raise ValueError(
                f"RelativePositionBias: num_buckets must be {'even and ' if bidirectional else ''}at least "
                f"{2 * directions}, got {num_buckets}"
            )
        self.buckets_each_way = num_buckets // directions
        if max_distance <= self.buckets_each_way // 2:
            raise ValueError(
                f"RelativePositionBias: max_distance must be above {self.buckets_each_way // 2}, the number "
                f"of distances that have a bucket each, got {max_distance}"
            )
        self.num_heads = num_heads
        self.bidirectional = bidirectional
        self.weight = ArrayParameter((num_buckets, num_heads), normal, rng)
        self._edges = _bucket_edges(self.buckets_each_way, max_distance)

    def __call__(
        self, query_length: int, key_length: int | None = None, *, query_offset: int | None = None
    ) -> NDArray[Any]:
        """Make the bias, for the argument `bias` of `attnlib.attention`.

        Parameters
        ----------
        query_length
            Number of queries Sq.
        key_length
            Number of keys Sk. Default: Sq.
        query_offset
            Position of the first query among the keys. Default ``Sk - Sq``, as in `attnlib.attention`: the
            last query stands at the last key.

        Returns
        -------
        (H, Sq, Sk) ndarray
            A read-only view in the dtype of the table, in which each value is stored once: Sq + Sk - 1
            numbers a head.

        Raises
        ------
        TypeError, ValueError
            If a length is not an integer of at least 0, or the offset not an integer.
        """
        key_length = query_length if key_length is None else key_length
        check_size("RelativePositionBias", query_length=query_length, key_length=key_length)
        offset = key_length - query_length if query_offset is None else query_offset
        if isinstance(offset, bool) or not isinstance(offset, (int, np.integer)):
            raise TypeError(
                f"RelativePositionBias: query_offset must be an integer, got {type(offset).__name__}"
            )
        if not (query_length and key_length):
            return np.empty((self.num_heads, query_length, key_length), self.weight.value.dtype)
        # Element (h, i, j) depends on j - i alone. Row i is the window that begins at key 0, i.e. at distance
        # -(offset + i): the first row is the last window.
        distances = np.arange(1 - query_length, key_length) - offset
        by_distance = np.ascontiguousarray(self.weight.value[self.buckets(distances)].T)
        return sliding_window_view(by_distance, key_length, axis=1)[:, ::-1]

    def buckets(self, distances: NDArray[np.integer[Any]]) -> NDArray[np.intp]:
        """Return the bucket, a row of `weight`, of each distance (position of the key less the query's)."""
        steps = np.abs(distances) if self.bidirectional else np.maximum(-distances, 0)
        rows: NDArray[np.intp] = np.searchsorted(self._edges, steps, side="right")
        return rows + self.buckets_each_way * (distances > 0) if self.bidirectional else rows


def _bucket_edges(buckets: int, max_distance: int) -> NDArray[np.int64]:
    """Return the distances at which the buckets 1, 2, ... of one direction begin; bucket 0 begins at 0.

    With n the half of the buckets that hold one distance each, the paper's code puts distance d >= n into
    bucket ``n + floor(log(d / n) / log(max_distance / n) * (buckets - n))``, at most ``buckets - 1``. So
    bucket n + k begins at the first integer from ``n * (max_distance / n)**(k / (buckets - n))`` on. Where
    that is an integer itself, the power may come out a little above it: hence the margin.
    """
    single = buckets // 2
    exponents = np.arange(1, buckets - single) / (buckets - single)
    bounds = single * (max_distance / single) ** exponents
    return np.concatenate([np.arange(1, single + 1), np.ceil(bounds * (1 - 1e-12)).astype(np.int64)])
