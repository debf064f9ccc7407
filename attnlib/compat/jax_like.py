"""Attention as `jax.nn` has it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from attnlib.arrays import as_array, optional_array
from attnlib.functional import attention

__all__ = ["dot_product_attention"]


def dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    *,
    scale: float | None = None,
    is_causal: bool = False,
    query_seq_lengths: ArrayLike | None = None,
    key_value_seq_lengths: ArrayLike | None = None,
    local_window_size: int | tuple[int, int] | None = None,
    implementation: str | None = None,
    return_residual: bool = False,
) -> Any:
    """`jax.nn.dot_product_attention` on arrays.

    B batch, T queries, S keys, N query heads, K key/value heads, H head size; heads lie inside of positions.

    Parameters
    ----------
    query : array_like, shape (B, T, N, H) or (T, N, H)
        Queries: arrays, or JAX's in the CPU's memory.
    key, value : array_like, shape (B, S, K, H) or (S, K, H)
        Keys and values; N must be a multiple of K.
    bias : array_like, broadcastable to (B, N, T, S), optional
        Added to the scores.
    mask : array_like of bool, broadcastable to (B, N, T, S), optional
        True takes part in attention.
    scale : float, optional
        Default ``H ** -0.5``.
    is_causal : bool, default False
        Query i sees the keys ``j <= i``: aligned at the top left (attnlib's own ``causal`` is aligned at the
        bottom right).
    query_seq_lengths, key_value_seq_lengths : array_like of int, shape (B,), optional
        Valid queries and keys of each sequence; results of the other queries are zeros.
    local_window_size : int or (left, right), optional
        Query i sees the keys ``i - left <= j <= i + right``.
    implementation : {None, "xla"}
        Changes nothing. ``"cudnn"`` is refused.
    return_residual : bool, default False
        Return the log-sum-exp of the scores too.

    Returns
    -------
    out : ndarray, shape of `query`
        In the inputs' dtype. Alone, or in a tuple with the residual.
    residual : ndarray, shape (B, T, N) or (T, N)
        float32 (float64 for float64).

    Raises
    ------
    NotImplementedError
        For another `implementation`.
    TypeError
        For an argument of a wrong dtype.
    ValueError
        If shapes do not fit.

    Notes
    -----
    It differs from JAX's where a valid query may see no key: zeros here, the mean of the values there, whose
    masked scores are large negative numbers. Mixed dtypes promote instead of being refused.

    Examples
    --------
    >>> import numpy as np
    >>> query, key = np.zeros((1, 2, 1, 1)), np.zeros((1, 3, 1, 1))
    >>> value = np.array([6.0, 0.0, 0.0]).reshape(1, 3, 1, 1)
    >>> dot_product_attention(query, key, value, is_causal=True).ravel()
    array([6., 3.])
    """
    name = "dot_product_attention"
    if implementation not in (None, "xla"):
        raise NotImplementedError(f"{name}: implementation must be None or 'xla', got {implementation!r}")
    query = as_array("dot_product_attention: query", query)
    key = as_array("dot_product_attention: key", key)
    value = as_array("dot_product_attention: value", value)
    for argument, array in (("query", query), ("key", key), ("value", value)):
        if array.ndim not in (3, 4):
            raise ValueError(f"{name}: {argument} must have 3 or 4 axes, (B, T, N, H), got {array.shape}")
    batched = query.ndim == 4
    query, key, value = (array if array.ndim == 4 else array[None] for array in (query, key, value))
    if key.shape != value.shape or query.shape[0] != key.shape[0] or query.shape[3] != key.shape[3]:
        raise ValueError(
            f"{name}: query (B, T, N, H), key and value (B, S, K, H) must agree in B, K, S and H, "
            f"got query {query.shape}, key {key.shape} and value {value.shape}"
        )
    window = local_window_size
    if isinstance(window, (int, np.integer)):
        window = (int(window), int(window))
    batch, queries, heads, _ = query.shape
    positional = is_causal or window is not None
    out, residual = attention(
        query.swapaxes(1, 2),
        key.swapaxes(1, 2),
        value.swapaxes(1, 2),
        mask=optional_array("dot_product_attention: mask", mask),
        bias=optional_array("dot_product_attention: bias", bias),
        causal=is_causal,
        window=window,
        query_offset=0 if positional else None,
        key_lengths=optional_array("dot_product_attention: key_value_seq_lengths", key_value_seq_lengths),
        scale=scale,
        return_lse=True,
    )
    if query_seq_lengths is not None:
        lengths = as_array("dot_product_attention: query_seq_lengths", query_seq_lengths)
        if lengths.shape != (batch,):
            raise ValueError(f"{name}: query_seq_lengths must have shape ({batch},), got {lengths.shape}")
        padding = np.arange(queries) >= lengths[:, None]
        out[np.broadcast_to(padding[:, None], (batch, heads, queries))] = 0
    out, residual = out.swapaxes(1, 2), residual.swapaxes(1, 2)
    if not batched:
        out, residual = out[0], residual[0]
    return (out, residual) if return_residual else out
