"""From the hidden states of a text's tokens to one vector (Reimers and Gurevych, "Sentence-BERT", 2019).

Each text is pooled by itself and in one order, so that its bits do not depend on the texts beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.files.config import JsonFile

__all__ = ["Vectors", "normalise", "pool", "read_pooling"]

Vectors = NDArray[np.float32]
# Of the hidden states of the tokens from some place on.
Pooling = Callable[[Vectors, int], Vectors]


def _weighted_mean(hidden: Vectors, first: int) -> Vectors:
    weights = np.arange(first + 1, first + len(hidden) + 1, dtype=np.float32)
    mean: Vectors = (hidden * weights[:, None]).sum(axis=0) / weights.sum()
    return mean


# Under the names of sentence-transformers' "pooling_mode".
_MODES: dict[str, Pooling] = {
    "cls": lambda hidden, first: hidden[0],
    "max": lambda hidden, first: hidden.max(axis=0),
    "mean": lambda hidden, first: hidden.sum(axis=0) / np.float32(len(hidden)),
    "mean_sqrt_len_tokens": lambda hidden, first: hidden.sum(axis=0) / np.sqrt(np.float32(len(hidden))),
    "weightedmean": _weighted_mean,
    "lasttoken": lambda hidden, first: hidden[-1],
}

# Before there was "pooling_mode" there was a switch for each; several vectors are joined in this order.
_SWITCHES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_pooling(file: JsonFile, hidden_size: int) -> tuple[str, ...]:
    """Read the ``config.json`` of a pooling module: the modes whose vectors are joined.

    Raises
    ------
    ValueError
        If a mode is unknown or the size is not that of the hidden states.
    """
    for field in ("word_embedding_dimension", "embedding_dimension"):
        if field in file and (size := file.integer(field, 1, 1 << 20)) != hidden_size:
            raise file.error(field, f"is {size}, but the model's hidden size is {hidden_size}")
    if "pooling_mode" not in file:
        modes = tuple(mode for switch, mode in _SWITCHES.items() if file.boolean(switch, False))
        return modes or ("mean",)
    found = file.get("pooling_mode")
    modes = tuple(found) if isinstance(found, list) else (found,)
    for mode in modes:
        if not isinstance(mode, str) or mode not in _MODES:
            raise file.error("pooling_mode", f"{mode!r} is not supported; known are {', '.join(_MODES)}")
    if not modes:
        raise file.error("pooling_mode", "is empty")
    return modes


def pool(
    hidden: NDArray[Any], cu_seqlens: NDArray[np.intp], modes: tuple[str, ...], skip: int = 0
) -> Vectors:
    """Make one vector of each packed text.

    Parameters
    ----------
    hidden : (T, d)
    cu_seqlens : (N + 1,)
        Text n is in rows ``cu_seqlens[n]`` to ``cu_seqlens[n + 1]``.
    modes
        One or more of those of `read_pooling`; their vectors are joined.
    skip
        So many tokens at the beginning of each text, its prompt's, do not count. Default 0.

    Returns
    -------
    (N, d * len(modes)) float32 ndarray
        Zeros for a text without tokens that count.
    """
    wide = hidden.astype(np.float32, copy=False)
    functions = [_MODES[mode] for mode in modes]
    width = wide.shape[1]
    edges = cu_seqlens.tolist()
    vectors = np.zeros((len(edges) - 1, len(modes) * width), dtype=np.float32)
    for row, (start, stop) in enumerate(pairwise(edges)):
        if start + skip < stop:
            for place, function in enumerate(functions):
                vectors[row, place * width : (place + 1) * width] = function(wide[start + skip : stop], skip)
    return vectors


def normalise(vectors: Vectors) -> Vectors:
    """Scale each row to length 1; a row of zeros stays as it is."""
    lengths = np.sqrt(np.square(vectors).sum(axis=1, keepdims=True))
    unit: Vectors = vectors / np.maximum(lengths, np.float32(1e-12))
    return unit
