"""The first half of a Llama layer, in a decoder's step, in one call."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import _core
from attnlib._core import PackedWeight
from attnlib.functional.cached_attention import cached_attention
from attnlib.functional.matmul import linear
from attnlib.functional.normalization import rms_norm
from attnlib.functional.observer import OBSERVER

__all__ = ["cached_self_attention"]


def cached_self_attention(
    x: ArrayLike,
    key_cache: NDArray[Any],
    value_cache: NDArray[Any],
    lengths: ArrayLike,
    *,
    norm_weight: ArrayLike | None,
    in_proj: PackedWeight,
    out_proj: PackedWeight,
    heads: int,
    groups: int,
    eps: float = 1e-6,
    in_bias: ArrayLike | None = None,
    out_bias: ArrayLike | None = None,
    query_norm: ArrayLike | None = None,
    key_norm: ArrayLike | None = None,
    cos: ArrayLike | None = None,
    sin: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    window: int | None = None,
    scale: float | None = None,
) -> NDArray[Any]:
    """Add causal self-attention over a cache, which reads its input through a norm: a sublayer of Llama.

    ``x + attended @ out_proj.T``, where queries, keys and values are the heads of ``rms_norm(x, norm_weight)
    @ in_proj.T`` and `cached_attention` turns and attends. The same bits as these four calls, without what
    they cost for every layer of every token.

    Letters: B batch, S new tokens, d features, H query heads and G key/value heads of size D, C capacity.

    Parameters
    ----------
    x : array_like, shape (B, S, d)
    key_cache, value_cache : ndarray, shape (B, G, C, D)
    lengths : array_like of int, shape (B,)
        These and `cos`, `sin`, `positions`, `window` and `scale` are as for `cached_attention`.
    norm_weight : array_like, shape (d,), or None
    in_proj : PackedWeight, shape ((H + 2 * G) * D, d)
        Of queries, keys and values, one below the other.
    out_proj : PackedWeight, shape (d, H * D)
    heads, groups
        H and G.
    eps
        Added to the mean squares. Default 1e-6.
    in_bias, out_bias : array_like, shapes ((H + 2 * G) * D,) and (d,), optional
    query_norm, key_norm : array_like, shape (D,), optional
        Weights of an RMS norm of each head of the queries, and of the keys. Default: no such norm.

    Returns
    -------
    ndarray, shape (B, S, d)
        Of the dtype that `x`, norms, biases and float weights promote to, which must be the cache's.

    Raises
    ------
    TypeError, ValueError
        As `rms_norm`, `linear` and `cached_attention`; where float64 meets a weight that is packed otherwise.
        The tokens that the cache holds are then as they were.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> keys, values = np.zeros((2, 1, 1, 8, 2))
    >>> weights = {"norm_weight": np.ones(4), "in_proj": al.pack_weight(np.ones((6, 4)))}
    >>> weights["out_proj"] = al.pack_weight(np.ones((4, 2)))
    >>> x = np.array([[[3.0, 3.0, 3.0, 3.0]]])
    >>> cached_self_attention(x, keys, values, [0], **weights, heads=1, groups=1, eps=0.0)
    array([[[11., 11., 11., 11.]]])
    """
    if OBSERVER.get() is None:
        return _core.cached_self_attention(
            x,
            key_cache,
            value_cache,
            lengths,
            norm_weight,
            in_proj,
            out_proj,
            heads,
            groups,
            eps,
            in_bias,
            out_bias,
            query_norm,
            key_norm,
            cos,
            sin,
            positions,
            window,
            scale,
        )
    # Step by step, so that the observer sees the queries.
    mixed = linear(rms_norm(x, norm_weight, eps=eps), in_proj, in_bias)
    batch, count = mixed.shape[:2]
    # Not -1, which nothing tells where there are no tokens.
    size = mixed.shape[2] // max(heads + 2 * groups, 1)
    mixed = mixed.reshape(batch, count, heads + 2 * groups, size).swapaxes(1, 2)
    query, key, value = np.split(mixed, [heads, heads + groups], axis=1)
    if query_norm is not None:
        query = rms_norm(query, query_norm, eps=eps)
    if key_norm is not None:
        key = rms_norm(key, key_norm, eps=eps)
    attended = cached_attention(
        query,
        key,
        value,
        key_cache,
        value_cache,
        lengths,
        cos=cos,
        sin=sin,
        positions=positions,
        window=window,
        scale=scale,
    )
    return linear(attended.reshape(batch, count, heads * size), out_proj, out_bias, residual=x)
