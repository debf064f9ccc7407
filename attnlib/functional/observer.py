"""Watching attention: an observer sees what every call attends with, wherever in a model the call is made.

Layers and models need not know of it, and it changes nothing of what they compute. Without an observer it
costs one look at a context variable, some twenty nanoseconds a call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy.typing as npt

from attnlib.arrays import as_array

__all__ = ["OBSERVER", "AttentionCall", "Observer", "observe_attention", "report", "report_packed"]

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """What one call of `attention` is about to attend with.

    Attributes
    ----------
    query : (..., H, Sq, D)
    key : (..., G, Sk, D)
        Views of what the model works on, which it may overwrite later: read them now, and do not write.
    options
        What else the weights depend on: ``mask``, ``bias``, ``causal``, ``window``, ``query_offset``,
        ``key_lengths``, ``scale``, ``softcap``, ``alibi_slopes`` and ``sinks``, as `attention` takes them.
    """

    query: Array
    key: Array
    options: Mapping[str, Any]


Observer = Callable[[AttentionCall], None]

# A context variable: other threads and tasks, which run models of their own, are not watched.
OBSERVER: ContextVar[Observer | None] = ContextVar("attnlib.attention_observer", default=None)


@contextmanager
def observe_attention(observer: Observer) -> Iterator[None]:
    """Call `observer` before each `attention` and each sequence of an `attention_varlen` in the block.

    Attention that the observer computes itself is not observed. Of nested blocks, the innermost one's
    observer is called alone. Only calls of this thread, or of this asyncio task, are seen.

    Parameters
    ----------
    observer
        Called with an `AttentionCall`. What it raises ends the call that it observes.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> from attnlib.functional import observe_attention
    >>> encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 3)
    >>> calls = []
    >>> with observe_attention(calls.append):
    ...     out = encoder(np.zeros((1, 5, 8), np.float32))
    >>> len(calls), calls[0].query.shape
    (3, (1, 2, 5, 4))
    """
    before = OBSERVER.set(observer)
    try:
        yield
    finally:
        OBSERVER.reset(before)


def report(observer: Observer, query: npt.ArrayLike, key: npt.ArrayLike, options: dict[str, Any]) -> None:
    """Tell the observer of one call."""
    before = OBSERVER.set(None)
    try:
        observer(AttentionCall(as_array("attention: query", query), as_array("attention: key", key), options))
    finally:
        OBSERVER.reset(before)


def report_packed(
    observer: Observer,
    query: npt.ArrayLike,
    key: npt.ArrayLike,
    cu_seqlens_q: npt.ArrayLike,
    cu_seqlens_k: npt.ArrayLike | None,
    options: dict[str, Any],
) -> None:
    """Tell the observer of each sequence of one call of `attention_varlen`, as if it were alone."""
    queries, keys = as_array("attention_varlen: query", query), as_array("attention_varlen: key", key)
    starts_q = as_array("attention_varlen: cu_seqlens_q", cu_seqlens_q)
    starts_k = starts_q if cu_seqlens_k is None else as_array("attention_varlen: cu_seqlens_k", cu_seqlens_k)
    integers = starts_q.dtype.kind in "iu" and starts_k.dtype.kind in "iu"
    if not queries.ndim == keys.ndim == 3 or not starts_q.ndim == starts_k.ndim == 1 or not integers:
        return  # the call itself will say what is wrong
    for (start_q, stop_q), (start_k, stop_k) in zip(
        pairwise(starts_q.tolist()), pairwise(starts_k.tolist()), strict=False
    ):
        heads = queries[start_q:stop_q].swapaxes(0, 1), keys[start_k:stop_k].swapaxes(0, 1)
        report(observer, *heads, options)
