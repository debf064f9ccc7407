"""A decoder's step: new tokens join the cache and attend to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import _core
from attnlib.arrays import as_array
from attnlib.functional.observer import OBSERVER, report
from attnlib.functional.positions import rotary_embedding

__all__ = ["cached_attention"]


def cached_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    key_cache: NDArray[Any],
    value_cache: NDArray[Any],
    lengths: ArrayLike,
    *,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    causal: bool = True,
    window: int | None = None,
    scale: float | None = None,
) -> NDArray[Any]:
    """Write new keys and values behind those of a cache, and attend to all of them, in one call.

    It is `rotary_embedding` of queries and keys (if there are `cos` and `sin`), two copies and `attention`:
    the same bits, without what four calls and their arrays cost for every layer of every token.

    Letters: B batch, H query heads, G key/value heads, S new tokens, D and Dv head sizes, C capacity.

    Parameters
    ----------
    query : array_like, shape (B, H, S, D)
    key, value : array_like, shapes (B, G, S, D) and (B, G, S, Dv)
        Of the new tokens.
    key_cache, value_cache : ndarray, shapes (B, G, C, D) and (B, G, C, Dv)
        Written at places ``lengths[b] .. lengths[b] + S - 1`` of sequence b. Of the dtype that query, key and
        value promote to, contiguous along the last axis, not broadcast, and sharing no memory with anything
        else here.
    lengths : array_like of int, shape (B,)
        The tokens that the cache holds for each sequence. The caller counts: they are not changed.
    cos, sin : array_like, shape (max_position, R / 2) or (B, S, R / 2), optional
        As for `rotary_embedding`, but cast to the dtype that query, key and value promote to: they never
        widen it, since the cache has it. Default: nothing turns.
    positions : array_like of int, shape (S,) or (B, S), optional
        Where the new tokens stand. Default: behind those that the cache holds. None if `cos` and `sin` are
        (B, S, R / 2).
    causal
        Whether a new token sees only itself and what came before it. Default True.
    window
        How many tokens a query sees, itself included. Default: all.
    scale
        As for `attention`. Default ``D ** -0.5``.

    Returns
    -------
    ndarray, shape (B, S, H, Dv)
        Heads lie beside each other, for the projection that follows.

    Raises
    ------
    TypeError, ValueError
        For arrays of other shapes or dtypes, and for new tokens that do not fit. The tokens that the cache
        holds are then as they were.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib.functional import cached_attention
    >>> keys, values = np.zeros((2, 1, 2, 8, 4), np.float32)
    >>> token = np.ones((1, 2, 1, 4), np.float32)
    >>> cached_attention(token, token, 3 * token, keys, values, [0]).shape
    (1, 1, 2, 4)
    >>> values[0, 0, :2, 0].tolist()
    [3.0, 0.0]
    """
    out = _core.cached_attention(
        query, key, value, key_cache, value_cache, lengths, cos, sin, positions, causal, window, scale
    )
    if (observer := OBSERVER.get()) is not None:
        # The cache holds the keys as they are attended to; the queries are turned once more.
        query = as_array("cached_attention: query", query)
        before, count = np.asarray(lengths).astype(np.int64), query.shape[2]  # [] is of floats
        if cos is not None and sin is not None:
            if positions is None and np.ndim(cos) != 3:
                positions = before[:, None] + np.arange(count)
            cos, sin = (np.asarray(table).astype(key_cache.dtype) for table in (cos, sin))
            query = rotary_embedding(query, cos, sin, positions=positions)
        unused = ("mask", "bias", "query_offset", "softcap", "alibi_slopes", "sinks")
        options = {
            "causal": causal,
            "window": None if window is None else (window - 1, None),
            "key_lengths": before + count,
            "scale": scale,
        }
        keys = key_cache[:, :, : before.max(initial=0) + count]
        report(observer, query, keys, {**dict.fromkeys(unused), **options})
    return out
