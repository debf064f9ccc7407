"""Attention as the operator of ONNX's opsets 23 and 24 has it."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array, optional_array
from attnlib.functional import attention, matmul

__all__ = ["Attention"]

Array = NDArray[Any]


def Attention(  # noqa: N802, RUF100 - the operator's own name
    Q: ArrayLike,
    K: ArrayLike,
    V: ArrayLike,
    attn_mask: ArrayLike | None = None,
    past_key: ArrayLike | None = None,
    past_value: ArrayLike | None = None,
    nonpad_kv_seqlen: ArrayLike | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> tuple[Array, Array, Array, Array | None]:
    """ONNX's operator Attention, with its inputs and attributes, on arrays.

    B batch, Hq query heads, H key/value heads, Sq queries, Sk new keys, P past keys, T = P + Sk, D and Dv
    head sizes.

    Parameters
    ----------
    Q : array_like, shape (B, Hq, Sq, D) or (B, Sq, Hq * D)
        Queries.
    K : array_like, shape (B, H, Sk, D) or (B, Sk, H * D)
        Keys; Hq must be a multiple of H.
    V : array_like, shape (B, H, Sk, Dv) or (B, Sk, H * Dv)
        Values.
    attn_mask : array_like, broadcastable to (B, Hq, Sq, T), optional
        bool: True takes part in attention. Floats are added to the scores. A last axis shorter than T is
        filled up with keys that take no part.
    past_key, past_value : array_like, shapes (B, H, P, D) and (B, H, P, Dv), optional
        Both or neither; K and V are put behind them.
    nonpad_kv_seqlen : array_like of int, shape (B,), optional
        Opset 24: valid keys of each sequence. Not together with a past.
    is_causal : {0, 1}
        1: query i sees the keys ``j <= i + offset``, the offset being P with a past,
        ``nonpad_kv_seqlen - Sq`` with that, otherwise 0 (aligned at the top left, unlike attnlib's own
        ``causal``).
    kv_num_heads, q_num_heads : int, optional
        Heads; needed for inputs of three axes.
    qk_matmul_output_mode : {0, 1, 2, 3}
        What the fourth result is. 0 (default): None, since attention does not keep its scores; the operator
        has them here, which mode 1 without `softcap` gives. 1: the scaled scores after `softcap`. 2: these
        with the mask, ``-inf`` where a query may not see a key. 3: the weights.
    scale : float, optional
        Default ``D ** -0.5``.
    softcap : float
        Bounds the scores before the mask; 0 (default): no bound.
    softmax_precision : int, optional
        1 (float32) or 11 (float64), as ``onnx.TensorProto`` numbers them: that in which softmax is computed
        anyway, float64 for float64 and float32 for others.

    Returns
    -------
    Y : ndarray, shape (B, Hq, Sq, Dv) or (B, Sq, Hq * Dv)
        The result; zeros for a query that may see no key.
    present_key, present_value : ndarray, shapes (B, H, T, D) and (B, H, T, Dv)
        The past with what is new behind it.
    qk_matmul_output : ndarray, shape (B, Hq, Sq, T), or None
        As `qk_matmul_output_mode` says, in the dtype of Q. In modes 1 and 2 a second product, beside
        attention's own.

    Raises
    ------
    NotImplementedError
        For another `softmax_precision`: naming it.
    TypeError
        For an argument of a wrong dtype.
    ValueError
        If shapes do not fit, or arguments that exclude each other come together.

    Notes
    -----
    It differs from the operator in precision: scores and softmax are made in float32 (float64 for float64),
    nothing is rounded to float16 or bfloat16 between the steps.

    Examples
    --------
    >>> import numpy as np
    >>> Q, K = np.zeros((1, 1, 1, 4)), np.zeros((1, 1, 1, 4))
    >>> past_key, past_value = np.zeros((1, 1, 1, 4)), np.array([[[[6.0]]]])
    >>> Y, present_key, present_value, _ = Attention(
    ...     Q, K, np.array([[[[0.0]]]]), None, past_key, past_value, is_causal=1
    ... )
    >>> Y.ravel(), present_value.ravel()
    (array([3.]), array([6., 0.]))
    """
    if qk_matmul_output_mode not in (0, 1, 2, 3):
        raise ValueError(
            f"Attention: qk_matmul_output_mode must be 0, 1, 2 or 3, got {qk_matmul_output_mode!r}"
        )
    query, key, value = as_array("Attention: Q", Q), as_array("Attention: K", K), as_array("Attention: V", V)
    flat = query.ndim == 3
    _check_axes(query, key, value, q_num_heads, kv_num_heads)
    if flat:
        assert q_num_heads is not None
        assert kv_num_heads is not None
        query = _heads_apart("Q", query, q_num_heads)
        key, value = _heads_apart("K", key, kv_num_heads), _heads_apart("V", value, kv_num_heads)
    _check_precision(softmax_precision, query.dtype)

    past_keys = optional_array("Attention: past_key", past_key)
    past_values = optional_array("Attention: past_value", past_value)
    lengths = optional_array("Attention: nonpad_kv_seqlen", nonpad_kv_seqlen)
    if (past_keys is None) != (past_values is None):
        raise ValueError("Attention: past_key and past_value are given together, or not at all")
    if past_keys is not None and lengths is not None:
        raise ValueError(
            "Attention: nonpad_kv_seqlen must not be given together with past_key and past_value"
        )
    offset: Any = 0
    if past_keys is not None and past_values is not None:
        key = _behind("past_key", past_keys, key)
        value = _behind("past_value", past_values, value)
        offset = past_keys.shape[2]
    elif lengths is not None:
        offset = lengths - query.shape[2]

    mask = _filled_up(optional_array("Attention: attn_mask", attn_mask), key.shape[2])
    is_bool = mask is not None and mask.dtype == bool
    result = attention(
        query,
        key,
        value,
        mask=mask if is_bool else None,
        bias=None if is_bool else mask,
        causal=bool(is_causal),
        query_offset=offset if is_causal else None,
        key_lengths=lengths,
        scale=scale,
        # Anything but a number, `attention` complains about.
        softcap=None if isinstance(softcap, Real) and not softcap else softcap,
        return_weights=qk_matmul_output_mode == 3,
    )
    out, kept = result if qk_matmul_output_mode == 3 else (result, None)
    if qk_matmul_output_mode in (1, 2):
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are results, as in `attention`
            kept = _scores(query, key, scale, softcap)
            if qk_matmul_output_mode == 2:
                kept = _masked(kept, mask, offset if is_causal else None, lengths)
            kept = kept.astype(query.dtype.type)
    if flat:
        out = out.swapaxes(1, 2).reshape(out.shape[0], out.shape[2], -1)
    return out, key, value, kept


def _scores(query: Array, key: Array, scale: float | None, softcap: float) -> Array:
    """Return the scores (B, Hq, Sq, T) before the mask, in the type that attention computes in."""
    batch, heads, queries, size = query.shape
    groups = key.shape[1]
    computed = np.float64 if query.dtype.type is np.float64 else np.float32
    query, key = (array.astype(computed, copy=False) for array in (query, key))
    grouped = query.reshape(batch, groups, heads // groups if groups else 0, queries, size)
    scores = matmul(grouped, key[:, :, None].swapaxes(-1, -2))
    scores = scores.reshape(len(scores), heads, queries, key.shape[2])
    scores *= (1.0 / math.sqrt(size) if size else 1.0) if scale is None else scale
    return np.tanh(scores / softcap) * softcap if softcap else scores


def _masked(scores: Array, mask: Array | None, offset: Any, lengths: Array | None) -> Array:
    """Add a mask to the scores, and -inf where a query may not see a key."""
    queries, keys = np.arange(scores.shape[2])[:, None], np.arange(scores.shape[3])
    hidden = np.zeros((), bool)
    if mask is not None and mask.dtype == bool:
        hidden = ~mask
    elif mask is not None:
        scores = scores + mask
    if offset is not None:
        hidden = hidden | (keys > queries + np.asarray(offset)[..., None, None, None])
    if lengths is not None:
        hidden = hidden | (keys >= lengths[:, None, None, None])
    return np.where(hidden, -np.inf, scores)


def _check_axes(
    query: Array, key: Array, value: Array, q_num_heads: int | None, kv_num_heads: int | None
) -> None:
    if not query.ndim == key.ndim == value.ndim or query.ndim not in (3, 4):
        raise ValueError(
            "Attention: Q, K and V must all have 3 or all have 4 axes, "
            f"got Q {query.shape}, K {key.shape} and V {value.shape}"
        )
    for name, heads, array in (("q_num_heads", q_num_heads, query), ("kv_num_heads", kv_num_heads, key)):
        if query.ndim == 3 and (heads is None or heads < 1):
            raise ValueError(f"Attention: {name} must be given for inputs of 3 axes, got {heads}")
        if query.ndim == 4 and heads not in (None, array.shape[1]):
            raise ValueError(f"Attention: {name} must be the {array.shape[1]} of the input, got {heads}")


def _check_precision(softmax_precision: int | None, dtype: np.dtype[Any]) -> None:
    computed = 11 if dtype == np.float64 else 1
    if softmax_precision not in (None, computed):
        raise NotImplementedError(
            f"Attention: softmax_precision must be {computed} or None for {dtype}, got {softmax_precision}"
        )


def _heads_apart(name: str, array: Array, heads: int) -> Array:
    """(B, S, H * D) as (B, H, S, D), a view where the array lies so."""
    batch, length, size = array.shape
    if size % heads:
        raise ValueError(
            f"Attention: the last axis of {name} must be a multiple of {heads} heads, got {size}"
        )
    apart: Array = array.reshape(batch, length, heads, size // heads).swapaxes(1, 2)
    return apart


def _behind(name: str, past: Array, new: Array) -> Array:
    if past.ndim != 4 or past.shape[:2] != new.shape[:2] or past.shape[3] != new.shape[3]:
        raise ValueError(f"Attention: {name} must be (B, H, P, D), got {past.shape} before {new.shape}")
    return np.concatenate((past, new), axis=2)


def _filled_up(mask: Array | None, keys: int) -> Array | None:
    """Put keys that take no part behind a mask's last axis, as the operator does (an axis of 1, too)."""
    if mask is None or mask.ndim == 0 or mask.shape[-1] >= keys:
        return mask
    rest = np.full(
        (*mask.shape[:-1], keys - mask.shape[-1]), False if mask.dtype == bool else -np.inf, mask.dtype
    )
    return np.concatenate((mask, rest), axis=-1)
