"""Attention as `torch.nn.functional` has it."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array, optional_array
from attnlib.functional import attention

__all__ = ["scaled_dot_product_attention"]


def scaled_dot_product_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    attn_mask: ArrayLike | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> NDArray[Any]:
    """`torch.nn.functional.scaled_dot_product_attention` on arrays.

    N batch (any number of leading axes), Hq query heads, H key/value heads, L queries, S keys, E and Ev head
    sizes.

    Parameters
    ----------
    query : array_like, shape (N, ..., Hq, L, E)
        Queries: arrays, or tensors in the CPU's memory.
    key : array_like, shape (N, ..., H, S, E)
        Keys.
    value : array_like, shape (N, ..., H, S, Ev)
        Values.
    attn_mask : array_like, broadcastable to (N, ..., Hq, L, S), optional
        bool: True takes part in attention. Floats are added to the scores.
    dropout_p : float
        Must be 0.0: this is inference.
    is_causal : bool, default False
        Query i sees the keys ``j <= i``: aligned at the top left, also where L and S differ (attnlib's own
        ``causal`` is aligned at the bottom right). Not together with `attn_mask`.
    scale : float, optional
        Default ``E ** -0.5``.
    enable_gqa : bool, default False
        Allow Hq to be a multiple of H.

    Returns
    -------
    ndarray, shape (N, ..., Hq, L, Ev)
        In the inputs' dtype.

    Raises
    ------
    NotImplementedError
        If `dropout_p` is not 0.
    TypeError
        For an argument of a wrong dtype.
    ValueError
        If shapes do not fit, heads differ without `enable_gqa`, or `attn_mask` comes with `is_causal`.

    Notes
    -----
    It differs from PyTorch's in what it returns (arrays, without gradients) and in that mixed dtypes promote.
    A query that may see no key gets zeros, as in PyTorch from 2.5 on.

    Examples
    --------
    >>> import numpy as np
    >>> query, key = np.zeros((1, 1, 2, 4)), np.zeros((1, 1, 3, 4))
    >>> value = np.array([[[[6.0], [0.0], [0.0]]]])
    >>> scaled_dot_product_attention(query, key, value, is_causal=True).ravel()
    array([6., 3.])
    """
    name = "scaled_dot_product_attention"
    if dropout_p != 0.0:
        raise NotImplementedError(f"{name}: dropout_p must be 0.0 in inference, got {dropout_p}")
    query = as_array("scaled_dot_product_attention: query", query)
    key = as_array("scaled_dot_product_attention: key", key)
    value = as_array("scaled_dot_product_attention: value", value)
    mask = optional_array("scaled_dot_product_attention: attn_mask", attn_mask)
    if is_causal and mask is not None:
        raise ValueError(f"{name}: attn_mask and is_causal must not be given together")
    if not enable_gqa and query.ndim > 2 and key.ndim > 2:
        for argument, array in (("key", key), ("value", value)):
            if array.ndim > 2 and array.shape[-3] not in (1, query.shape[-3]):
                raise ValueError(
                    f"{name}: {argument} must have as many heads as query unless enable_gqa is True, "
                    f"got query {query.shape} and {argument} {array.shape}"
                )
    is_bool = mask is not None and mask.dtype == bool
    result: NDArray[Any] = attention(
        query,
        key,
        value,
        mask=mask if is_bool else None,
        bias=None if is_bool else mask,
        causal=is_causal,
        query_offset=0 if is_causal else None,
        scale=scale,
    )
    return result
