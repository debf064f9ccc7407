"""Choosing the next token from logits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.checks import check_integer, check_number

__all__ = ["LEAST_PENALTY", "MOST_PENALTY", "Sampling", "log_probability", "log_softmax64"]

Array = NDArray[Any]

# Beyond these a repetition penalty leaves nothing of the scores but overflow and zeros.
LEAST_PENALTY, MOST_PENALTY = 1e-6, 1e6


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen; filters apply in the order of the fields.

    Parameters
    ----------
    repetition_penalty
        Positive logits of tokens already in the sequence are divided by it, negative ones multiplied (N. S.
        Keskar et al., "CTRL", 2019, arXiv:1909.05858). 1 (default) changes nothing; from 1e-6 to 1e6.
    temperature
        0 (default): the likeliest token. Otherwise logits are divided by it and a token is drawn, however
        near to 0 it is: then almost surely the likeliest.
    top_k
        Only the k likeliest tokens; those that tie with the last of them stay. None (default): all.
    top_p
        Only the fewest likeliest tokens whose probabilities reach p (A. Holtzman et al., "The Curious Case of
        Neural Text Degeneration", 2019, arXiv:1904.09751). 1 (default): all.
    min_p
        Only tokens at least this times as likely as the likeliest. 0 (default): all.

    Raises
    ------
    TypeError, ValueError
        If a number is none or out of its range.
    """

    repetition_penalty: float = 1.0
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        check_number("generate", "repetition_penalty", self.repetition_penalty, LEAST_PENALTY, MOST_PENALTY)
        check_number("generate", "temperature", self.temperature, 0)
        if self.top_k is not None:
            check_integer("generate", "top_k", self.top_k, 1)
        if check_number("generate", "top_p", self.top_p, 0, 1) == 0:
            raise ValueError("generate: top_p must be above 0, got 0")
        check_number("generate", "min_p", self.min_p, 0, 1)

    def penalise(self, logits: Array, seen: Sequence[int]) -> Array:
        """Apply the repetition penalty to logits (V,), in a new array if there is one.

        Raises
        ------
        ValueError
            If a score becomes infinite.
        """
        if self.repetition_penalty == 1:
            return logits
        logits = logits.copy()
        tokens = np.unique(np.asarray(seen, np.intp))
        found = logits[tokens]
        penalty = self.repetition_penalty
        with np.errstate(over="ignore"):
            logits[tokens] = np.where(found > 0, found / penalty, found * penalty)
        if not np.isfinite(logits.max()):
            raise ValueError(f"generate: repetition_penalty {penalty:g} makes scores infinite")
        return logits

    def probabilities(self, logits: Array) -> NDArray[np.float64]:
        """Turn penalised logits (V,) into the probabilities that a token is drawn with, (V,) float64."""
        scores = logits.astype(np.float64)
        # Divided afterwards, none can become infinite but those of tokens that are not drawn anyway.
        scores -= scores.max()
        with np.errstate(over="ignore"):
            scores /= self.temperature
        if self.top_k is not None and self.top_k < scores.size:
            kept = int(self.top_k)  # one without a sign has no negative
            least = np.partition(scores, -kept)[-kept]
            scores[scores < least] = -np.inf
        result: NDArray[np.float64] = np.exp(log_softmax64(scores))
        if self.top_p < 1:
            order = np.argsort(-result, kind="stable")
            before = np.cumsum(result[order]) - result[order]
            result[order[before >= self.top_p]] = 0
        result[result < self.min_p * result.max()] = 0
        result /= result.sum()
        return result

    def choose(self, logits: Array, rng: np.random.Generator) -> int:
        """Choose a token by penalised logits (V,)."""
        if self.temperature == 0:
            return int(logits.argmax())
        chances = np.cumsum(self.probabilities(logits))
        # Rounding may leave the last sum below 1; a token of probability 0 is never drawn.
        return int(np.searchsorted(chances, rng.random() * chances[-1], side="right"))


def log_softmax64(logits: Array) -> NDArray[np.float64]:
    """Compute log-probabilities over the last axis in float64."""
    scores = logits.astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    result: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
    return result


def log_probability(logits: NDArray[np.float32], token: int) -> float:
    """Compute the log-probability of one token by logits (V,), to within a few eps of float32.

    Exponentials in float64, as in `log_softmax64`, would take more of a small model's step than all else but
    its products.
    """
    largest = logits.max()
    total = float(np.exp(logits - largest).sum(dtype=np.float64))
    return float(logits[token]) - float(largest) - math.log(total)
