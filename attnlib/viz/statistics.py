"""What attention does over long sequences: statistics, block by block, without a matrix of queries and keys.

Letters: H query heads, G key/value heads, Sq queries, Sk keys, D head size, k keys listed for each query.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.arrays import as_array
from attnlib.checks import check_integer
from attnlib.functional import attention

__all__ = ["AttentionStatistics", "attention_statistics"]

# Part of the order of summation, so that it does not depend on the batch or on memory.
_BLOCK = 64


@dataclass(frozen=True, eq=False)
class AttentionStatistics:
    """What `attention_statistics` finds.

    Attributes
    ----------
    received : (..., H, Sk) ndarray
        The sum over all queries of the weight that each key gets: 1 on average if there are as many keys as
        queries. float64.
    entropy : (..., H, Sq) ndarray
        ``-sum(w log w)`` of each query's weights, in nats: 0 if it attends to one key alone, ``log n`` if to
        n keys alike. 0 for a query that attends to nothing. float64.
    top_keys : (..., H, Sq, k) ndarray of intp
        The keys with the greatest weights, greatest first, of equal ones the first; -1 where there are no
        more keys with a weight above 0.
    top_weights : (..., H, Sq, k) ndarray
        Their weights, in the dtype that `attnlib.attention` returns weights in.
    """

    received: NDArray[np.float64]
    entropy: NDArray[np.float64]
    top_keys: NDArray[np.intp]
    top_weights: NDArray[Any]


def attention_statistics(
    query: ArrayLike,
    key: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    query_offset: ArrayLike | None = None,
    key_lengths: ArrayLike | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi_slopes: ArrayLike | None = None,
    sinks: ArrayLike | None = None,
    top_k: int = 5,
    block: int = _BLOCK,
) -> AttentionStatistics:
    """Describe the weights of attention: what each key receives, how wide and where each query looks.

    Parameters
    ----------
    query : array_like, shape (..., H, Sq, D) or (Sq, D)
    key : array_like, shape (..., G, Sk, D) or (Sk, D)
    mask, bias, causal, window, query_offset, key_lengths, scale, softcap, alibi_slopes, sinks
        As in `attnlib.attention`; `mask` and `bias` have no more leading axes than `query` and `key`.
    top_k
        How many keys k to list for each query, at most Sk. Default 5.
    block
        Queries of one head whose weights are held at a time: memory beyond the results is O(block Sk).
        Default 64. The last bits of the results depend on it.

    Returns
    -------
    AttentionStatistics
        Without the axis of heads if both `query` and `key` have two axes.

    Raises
    ------
    TypeError, ValueError
        If `top_k` or `block` is no positive integer, or an argument is not as `attnlib.attention` wants it.

    Notes
    -----
    The statistics of a model's own attention, layer by layer::

        found = []
        with attnlib.functional.observe_attention(
            lambda call: found.append(attention_statistics(call.query, call.key, **call.options))
        ):
            encoder.encode(text)

    Keys that receive much whatever the text says are known as sinks (G. Xiao et al., "Efficient streaming
    language models with attention sinks", 2023, arXiv:2309.17453).

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import viz
    >>> query = key = np.zeros((3, 4), np.float32)
    >>> found = viz.attention_statistics(query, key, causal=True, top_k=2)
    >>> found.received.round(2).tolist(), found.entropy.round(2).tolist()
    ([1.83, 0.83, 0.33], [0.0, 0.69, 1.1])
    >>> found.top_keys.tolist()
    [[0, -1], [0, 1], [0, 1]]
    """
    caller = "attention_statistics"
    for name, number in (("top_k", top_k), ("block", block)):
        check_integer(caller, name, number, 1)
    queries, keys = as_array(f"{caller}: query", query), as_array(f"{caller}: key", key)
    if queries.ndim < 2 or keys.ndim < 2:
        raise ValueError(f"{caller}: query {queries.shape} and key {keys.shape} must have two axes or more")
    one_head = queries.ndim == keys.ndim == 2
    queries, keys = (array[None] if array.ndim == 2 else array for array in (queries, keys))
    batch = _broadcast(caller, "query and key", queries.shape[:-3], keys.shape[:-3])
    heads, groups = queries.shape[-3], keys.shape[-3]
    if not groups or heads % groups:
        raise ValueError(f"{caller}: {groups} key/value heads of key do not divide {heads} heads of query")
    count, width = queries.shape[-2], keys.shape[-2]
    queries = np.broadcast_to(queries, (*batch, *queries.shape[-3:]))
    keys = np.broadcast_to(keys, (*batch, *keys.shape[-3:]))
    # Per score, and per batch entry; a position must not begin anew with each block.
    scores: dict[str, Any] = {
        name: _spread(caller, name, array, (*batch, heads, count, width))
        for name, array in (("mask", mask), ("bias", bias))
        if array is not None
    }
    lengths = _spread(caller, "key_lengths", width if key_lengths is None else key_lengths, batch)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"{caller}: key_lengths must be integers, got {lengths.dtype}")
    if ((lengths < 0) | (lengths > width)).any():
        raise ValueError(f"{caller}: key_lengths must be from 0 to {width}, got {lengths}")
    if query_offset is None:
        offsets = lengths.astype(np.int64) - count
    else:
        offsets = _spread(caller, "query_offset", query_offset, batch)
        if offsets.dtype.kind not in "iu":
            raise TypeError(f"{caller}: query_offset must be integers, got {offsets.dtype}")
    per_head: dict[str, Any] = {
        name: _spread(caller, name, array, (heads,))
        for name, array in (("alibi_slopes", alibi_slopes), ("sinks", sinks))
        if array is not None
    }
    listed = min(int(top_k), width)
    received = np.zeros((*batch, heads, width))
    entropy = np.zeros((*batch, heads, count))
    top_keys = np.full((*batch, heads, count, listed), -1, np.intp)
    top_weights = np.zeros((*batch, heads, count, listed), _weights_dtype(queries, keys, scores.get("bias")))

    for place in np.ndindex(*batch, heads):
        entry, head = place[:-1], place[-1]
        # Padding is left out, not masked: the order in which a row is summed depends on its length.
        valid = slice(0, int(lengths[entry]))
        own_key = keys[entry][head // (heads // groups), valid]
        value = np.empty((len(own_key), 0), own_key.dtype)  # the weights do without
        for start in range(0, count, block):
            rows = slice(start, start + block)
            _, weights = attention(
                queries[place][rows],
                own_key,
                value,
                **{name: array[place][rows, valid] for name, array in scores.items()},
                **{name: array[head : head + 1] for name, array in per_head.items()},
                causal=causal,
                window=window,
                query_offset=offsets[entry] + start,
                scale=scale,
                softcap=softcap,
                return_weights=True,
            )
            received[place][valid] += weights.sum(axis=0, dtype=np.float64)
            entropy[place][rows] = _entropy(weights)
            _list_top(weights, top_keys[place][rows], top_weights[place][rows])
    found = (received, entropy, top_keys, top_weights)
    return AttentionStatistics(*(array[0] for array in found)) if one_head else AttentionStatistics(*found)


def _entropy(weights: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``-sum(w log w)`` of each row, where ``0 log 0`` is 0."""
    work = weights.astype(np.promote_types(weights.dtype, np.float32))
    logarithms = np.maximum(work, np.finfo(work.dtype).tiny)
    np.log(logarithms, out=logarithms)
    work *= logarithms
    total: NDArray[np.float64] = work.sum(axis=-1, dtype=np.float64)
    # Where one weight of 1 stands alone, this must not be -0.
    return np.abs(total)


def _list_top(weights: NDArray[Any], keys: NDArray[np.intp], found: NDArray[Any]) -> None:
    """Write the greatest weights of each row and their keys; `weights` is used up."""
    rows = np.arange(len(weights))
    for place in range(min(keys.shape[-1], weights.shape[-1])):
        best = weights.argmax(axis=-1)
        weight = weights[rows, best]
        some = weight != 0
        keys[:, place] = np.where(some, best, -1)
        found[:, place] = weight
        if not some.any():
            break
        weights[rows, best] = 0


def _weights_dtype(*arrays: NDArray[Any] | None) -> Any:
    one = [np.empty((1, 1), array.dtype) for array in arrays if array is not None]
    bias = one[2] if len(one) > 2 else None
    return attention(one[0], one[1], one[1], bias=bias, return_weights=True)[1].dtype


def _broadcast(caller: str, names: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        raise ValueError(f"{caller}: the leading axes of {names} do not broadcast: {shapes}") from None


def _spread(caller: str, name: str, array: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """Broadcast an argument without copying it."""
    given = as_array(f"{caller}: {name}", array)
    try:
        return np.broadcast_to(given, shape)
    except ValueError:
        raise ValueError(f"{caller}: {name} has shape {given.shape}, which does not fit {shape}") from None
