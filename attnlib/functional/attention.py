"""Scaled dot-product attention in three forms: rectangular, packed, and the joining of partial results.

Dimension letters: B batch (any number of leading axes), H query heads, G key/value heads, Sq queries, Sk
keys, D head size, Dv value head size, N sequences, Tq and Tk tokens of all sequences together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from attnlib import _core
from attnlib.arrays import as_array
from attnlib.functional.observer import OBSERVER, report, report_packed

__all__ = ["attention", "attention_varlen", "merge_attention"]

Array = npt.NDArray[Any]


def attention(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    *,
    mask: npt.ArrayLike | None = None,
    bias: npt.ArrayLike | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    query_offset: npt.ArrayLike | None = None,
    key_lengths: npt.ArrayLike | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi_slopes: npt.ArrayLike | None = None,
    sinks: npt.ArrayLike | None = None,
    return_weights: bool = False,
    return_lse: bool = False,
    out: Array | None = None,
) -> Any:
    """Scaled dot-product attention: ``softmax(query @ key.T * scale) @ value``, never storing the scores.

    Scores are made in this order: ``query . key * scale``, then ``softcap * tanh(scores / softcap)``, then
    ``+ bias``, then the ALiBi term ``-slope * |position(i) - j|``, then every key that is not allowed is
    removed, then softmax. Query i stands at ``position(i) = query_offset + i``.

    Parameters
    ----------
    query : array_like, shape (..., H, Sq, D) or (Sq, D)
        Queries. Leading axes of the three broadcast as in `numpy.matmul`; two axes are one head.
    key : array_like, shape (..., G, Sk, D) or (Sk, D)
        Keys; H must be a multiple of G (grouped-query attention: query head h reads head ``h // (H // G)``).
    value : array_like, shape (..., G, Sk, Dv) or (Sk, Dv)
        Values.
    mask : array_like of bool, broadcastable to (..., H, Sq, Sk), optional
        True may attend.
    bias : array_like, broadcastable to (..., H, Sq, Sk), optional
        Added to the scores; ``-inf`` removes. Takes part in the promotion of the result's dtype.
    causal : bool, default False
        Allow only keys ``j <= position(i)``.
    window : (left, right), optional
        Allow only ``position(i) - left <= j <= position(i) + right``; None leaves a side open.
    query_offset : int or array_like of int, broadcastable to the leading axes, optional
        Position of query 0. Default ``valid keys - Sq``: the last query stands at the last valid key.
    key_lengths : array_like of int, broadcastable to the leading axes, optional
        Only the first ``key_lengths[b]`` keys are valid.
    scale : float, optional
        Default ``D ** -0.5``.
    softcap : float, optional
        Bounds the scores to ``(-softcap, softcap)`` (Gemma 2, arXiv:2408.00118).
    alibi_slopes : array_like, shape (H,), optional
        Slopes of O. Press et al., "Train short, test long" (arXiv:2108.12409).
    sinks : array_like, shape (H,), optional
        A logit per head that takes part in the softmax's denominator and has no value. Slopes and sinks are
        used in the compute dtype and do not take part in the promotion.
    return_weights : bool, default False
        Return the weights too; the one case in which memory is O(Sq * Sk).
    return_lse : bool, default False
        Return the log-sum-exp of the scores too (the sink included).
    out : ndarray, shape (..., H, Sq, Dv), optional
        Where to put the result.

    Returns
    -------
    out : ndarray, shape (..., H, Sq, Dv)
        Alone, or in a tuple ``(out[, weights][, lse])``. A query that may attend to nothing gets zeros.
    weights : ndarray, shape (..., H, Sq, Sk)
        In the result's dtype; removed keys have exactly 0.
    lse : ndarray, shape (..., H, Sq)
        float32 (float64 for float64); ``-inf`` for a query that may attend to nothing.

    Raises
    ------
    TypeError
        For an argument of a wrong dtype.
    ValueError
        If shapes do not fit, H is not a multiple of G, a key length is out of range, a window side is
        negative, or scale or softcap are not finite (softcap: not positive).

    Notes
    -----
    Softmax is computed online, block by block of keys (T. Dao et al., "FlashAttention", arXiv:2205.14135), in
    float32, or in float64 for float64. Where the CPU multiplies pairs of bfloat16 in one instruction, weights
    of bfloat16 are rounded to it before they meet the values, and the output is divided by the sum of the
    rounded ones; lse and weights are returned unrounded by that. Memory beyond the results is O(threads).

    There are two plans. A sequence with at most 16 rows for each key/value head (``Sq * H / G``) and at least
    64 valid keys, or a single query with at least 2, is decoded: keys are walked in chunks of 256, which
    threads may share and which are joined in order. Every other sequence, and so every one that attends to
    itself, is done in tiles of queries. Within a plan rows are independent of each other and each adds up its
    keys in order: the bits of a row depend on its own query, the keys it may see and their positions, the
    plan, and the instruction set, not on Sq, the batch, padding or threads. NaN and inf in keys and values
    reach only the queries that may attend to them.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> query = key = np.zeros((1, 2, 4), np.float32)
    >>> value = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)
    >>> al.attention(query, key, value, causal=True)
    array([[[1. , 0. ],
            [0.5, 0.5]]], dtype=float32)
    """
    if (observer := OBSERVER.get()) is not None:
        options = {
            "mask": mask,
            "bias": bias,
            "causal": causal,
            "window": window,
            "query_offset": query_offset,
            "key_lengths": key_lengths,
            "scale": scale,
            "softcap": softcap,
            "alibi_slopes": alibi_slopes,
            "sinks": sinks,
        }
        report(observer, query, key, options)
    return _core.attention(
        query,
        key,
        value,
        mask,
        bias,
        causal,
        window,
        query_offset,
        key_lengths,
        scale,
        softcap,
        alibi_slopes,
        sinks,
        return_weights,
        return_lse,
        out,
    )


def attention_varlen(
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    value: npt.ArrayLike,
    cu_seqlens_q: npt.ArrayLike,
    cu_seqlens_k: npt.ArrayLike | None = None,
    *,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi_slopes: npt.ArrayLike | None = None,
    sinks: npt.ArrayLike | None = None,
    return_lse: bool = False,
    out: Array | None = None,
) -> Any:
    """Attention over sequences of different lengths packed end to end, without padding.

    Every sequence attends to itself alone, with the bits that `attention` gives for it.

    Parameters
    ----------
    query : array_like, shape (Tq, H, D)
        Queries of all sequences.
    key : array_like, shape (Tk, G, D)
        Keys; H must be a multiple of G.
    value : array_like, shape (Tk, G, Dv)
        Values.
    cu_seqlens_q : array_like of int, shape (N + 1,)
        Offsets from 0 to Tq: sequence n has queries ``cu_seqlens_q[n] .. cu_seqlens_q[n + 1] - 1``.
    cu_seqlens_k : array_like of int, shape (N + 1,), optional
        Offsets from 0 to Tk; default ``cu_seqlens_q``.
    causal, window, scale, softcap, alibi_slopes, sinks, return_lse
        As in `attention`, positions counted within each sequence.
    out : ndarray, shape (Tq, H, Dv), optional
        Where to put the result.

    Returns
    -------
    out : ndarray, shape (Tq, H, Dv)
        Alone, or in a tuple with ``lse``.
    lse : ndarray, shape (Tq, H)
        float32 (float64 for float64).

    Raises
    ------
    TypeError
        For an argument of a wrong dtype.
    ValueError
        If shapes do not fit, or offsets do not run from 0 to the number of tokens without decreasing.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> tokens = np.ones((5, 1, 4), np.float32)
    >>> al.attention_varlen(tokens, tokens, tokens, [0, 2, 5]).shape
    (5, 1, 4)
    """
    if (observer := OBSERVER.get()) is not None:
        options = {
            "causal": causal,
            "window": window,
            "scale": scale,
            "softcap": softcap,
            "alibi_slopes": alibi_slopes,
            "sinks": sinks,
        }
        report_packed(observer, query, key, cu_seqlens_q, cu_seqlens_k, options)
    return _core.attention_varlen(
        query,
        key,
        value,
        cu_seqlens_q,
        cu_seqlens_k,
        causal,
        window,
        scale,
        softcap,
        alibi_slopes,
        sinks,
        return_lse,
        out,
    )


def merge_attention(
    outs: npt.ArrayLike | Sequence[npt.ArrayLike], lses: npt.ArrayLike | Sequence[npt.ArrayLike]
) -> tuple[Array, Array]:
    """Join partial attention results over disjoint sets of keys.

    With ``lse = log(sum_n exp(lses[n]))`` the result is ``sum_n outs[n] * exp(lses[n] - lse)``: what one call
    over all the keys gives.

    Parameters
    ----------
    outs : sequence of array_like, each of shape (..., Sq, Dv), or one array with N as its first axis
        Results of `attention`.
    lses : sequence of array_like, each of shape (..., Sq), or one array with N as its first axis
        Their log-sum-exps. A part with ``-inf`` saw no key and does not count.

    Returns
    -------
    out : ndarray, shape (..., Sq, Dv)
        In the dtype of ``outs``.
    lse : ndarray, shape (..., Sq)
        float32 (float64 for float64).

    Raises
    ------
    TypeError
        For arguments of a wrong dtype.
    ValueError
        If shapes do not fit.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> out, lse = al.merge_attention(np.array([[[2.0]], [[4.0]]]), np.zeros((2, 1)))
    >>> float(out[0, 0]), round(float(lse[0]), 4)
    (3.0, 0.6931)
    """
    return _core.merge_attention(_stacked("outs", outs), _stacked("lses", lses))


def _stacked(name: str, parts: npt.ArrayLike | Sequence[npt.ArrayLike]) -> npt.ArrayLike:
    if not isinstance(parts, Sequence):
        return parts
    arrays = [as_array(f"merge_attention: {name}[{index}]", part) for index, part in enumerate(parts)]
    shapes = {array.shape for array in arrays}
    if len(shapes) != 1:
        raise ValueError(
            f"merge_attention: {name} must be one or more arrays of equal shape, got {sorted(shapes)}"
        )
    try:
        return np.stack(arrays)
    except TypeError:
        dtypes = ", ".join(sorted({str(array.dtype) for array in arrays}))
        raise TypeError(f"merge_attention: {name} has dtypes of which none holds all: {dtypes}") from None
