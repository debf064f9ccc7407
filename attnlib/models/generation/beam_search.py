"""Beam search: the likeliest continuations, kept side by side."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.families.token_model import TokenModel
from attnlib.models.generation.decoding import LogitsCallback, Past, adjust, check_logits, prefill, proceed
from attnlib.models.generation.sampling import Sampling, log_softmax64

__all__ = ["beam_search"]


def beam_search(
    model: TokenModel,
    prompt: Sequence[int],
    *,
    past: Past | None = None,
    num_beams: int,
    max_new_tokens: int,
    length_penalty: float,
    end_ids: Collection[int],
    sampling: Sampling,
    logits_callback: LogitsCallback | None = None,
    early_stopping: bool = False,
    renormalize: bool = False,
) -> tuple[list[int], float]:
    """Find the continuation with the best sum of log-probabilities over ``length ** length_penalty``.

    Parameters
    ----------
    model
        Any decoder; an encoder-decoder needs `past`.
    prompt
        Token numbers: for an encoder-decoder the first of the target.
    past
        As in `decode`, of one sequence.
    num_beams
        Continuations kept at each step.
    max_new_tokens
        The most tokens.
    length_penalty
        Above 0 favours long continuations, below 0 short ones. Length counts new tokens.
    end_ids
        Tokens that end a continuation; they count, and are returned.
    sampling
        Of which only the repetition penalty matters.
    logits_callback
        As in `decode`.
    early_stopping
        Whether to end as soon as there are `num_beams` continuations that have ended, though a longer one
        might still become better. Default False.
    renormalize
        Whether to make probabilities of the scores again after callback and penalty. Default False.

    Returns
    -------
    tokens : list of int
    score : float
    """
    room = min(max_new_tokens, model.context_length - len(prompt))
    cache: Past
    if past is None:
        cache, logits = prefill(model, [prompt], len(prompt) + room)
    else:
        cache, logits = proceed(model, [prompt], past)

    def score(row: NDArray[np.float32], tokens: list[int]) -> NDArray[Any]:
        """Compute the logarithms of the next token's probabilities."""
        found = log_softmax64(row).astype(np.float32)
        found = adjust(found, [*prompt, *tokens], sampling, logits_callback)
        return log_softmax64(found) if renormalize else found

    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    done: list[tuple[float, list[int]]] = []
    for length in range(1, room + 1):
        check_logits(logits)
        scores = np.stack(
            [total + score(row, tokens) for row, (total, tokens) in zip(logits, beams, strict=True)]
        )
        # Every beam may end, and there must still be as many that go on.
        count = min(num_beams * (1 + max(len(end_ids), 1)), scores.size)
        best = _best(scores.ravel(), count)
        parents: list[int] = []
        following: list[tuple[float, list[int]]] = []
        for rank, flat in enumerate(best.tolist()):
            parent, token = divmod(flat, scores.shape[1])
            total, tokens = float(scores[parent, token]), [*beams[parent][1], token]
            if token in end_ids:
                # One that ranks below the beams is no better than what they may still become.
                if rank < num_beams:
                    done.append((total / length**length_penalty, tokens))
                continue
            parents.append(parent)
            following.append((total, tokens))
            if len(following) == num_beams:
                break
        beams = following
        done = sorted(done, key=lambda entry: -entry[0])[:num_beams]
        if not beams or length == room:
            break
        hopeless = early_stopping or (len(done) > 0 and done[-1][0] >= beams[0][0] / length**length_penalty)
        if len(done) == num_beams and hopeless:
            return done[0][1], done[0][0]
        cache.reorder(parents)
        logits = model.logits(model.hidden(np.array([[tokens[-1]] for _, tokens in beams]), cache)[:, -1])
    done += [(total / len(tokens) ** length_penalty, tokens) for total, tokens in beams]
    best_score, best_tokens = max(done, key=lambda entry: entry[0])
    return best_tokens, best_score


def _best(scores: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Find the places of the `count` highest scores, highest first, and the first of equals first."""
    # A vocabulary is long: to sort all of it would take as long as the model.
    least = np.partition(scores, -count)[-count]
    places = np.flatnonzero(scores >= least)
    return places[np.argsort(-scores[places], kind="stable")[:count]]
