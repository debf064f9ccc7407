"""Tokens that a checkpoint forbids or demands, whatever the model says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnlib.models.generation.decoding import LogitsCallback

__all__ = ["TokenRules"]


@dataclass(frozen=True)
class TokenRules:
    """What may stand where in a generated sequence.

    Parameters
    ----------
    never
        Tokens that are not generated at all: padding, say.
    never_first
        Tokens that are not generated first.
    first
        The token that is generated first: a target language, say. Default None: any.
    last
        Of these one is generated last, if the sequence did not end before. Default: any.
    end_ids
        What ends a sequence.
    min_length
        So many tokens stand before one of `end_ids`, those that the sequence begins with counted.
    min_new_tokens
        So many new tokens stand before one of `end_ids`.
    """

    never: tuple[int, ...] = ()
    never_first: tuple[int, ...] = ()
    first: int | None = None
    last: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = ()
    min_length: int = 0
    min_new_tokens: int = 0

    def callback(self, start: int, longest: int) -> LogitsCallback | None:
        """Make the function that applies the rules to logits (V,); None if there are none.

        Parameters
        ----------
        start
            Tokens that a sequence begins with.
        longest
            The most tokens of a sequence, these included.

        Raises
        ------
        ValueError
            By the function, if all tokens are forbidden.
        """
        shortest = max(self.min_length, start + self.min_new_tokens)
        if not (self.never or self.never_first or self.last) and self.first is None and not shortest > start:
            return None
        never, never_first, end_ids = list(self.never), list(self.never_first), list(self.end_ids)
        # A first token that is forced is not the one that those which may not be first are kept from.
        beginning = start + (self.first is not None and start == 1)

        def apply(sequence: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
            length = len(sequence)
            logits[never] = -np.inf
            if length < shortest:
                logits[end_ids] = -np.inf
            if self.first is not None and length == start == 1:
                logits = _only((self.first,), logits)
            if self.last and length == longest - 1:
                logits = _only(self.last, logits)
            if length == beginning:
                logits[never_first] = -np.inf
            if not (logits > -np.inf).any():
                raise ValueError("generate: the checkpoint's rules leave no token that is possible")
            return logits

        return apply


def _only(tokens: Sequence[int], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Make logits under which nothing but `tokens` can be chosen."""
    forced = np.full_like(logits, -np.inf)
    forced[list(tokens)] = 0
    return forced
