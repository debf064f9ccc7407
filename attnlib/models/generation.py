"""Generating tokens: prompts in, one token a sequence and step out.

What decodes is a `Decoder`, or an `EncoderDecoder` that goes on from what it has read of its sources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib import nn
from attnlib.models.decoder import Decoder
from attnlib.models.sampling import Sampling, log_softmax64
from attnlib.models.token_model import TokenModel

__all__ = ["LogitsCallback", "Past", "Step", "chain", "check_prompts", "decode", "prefill"]

Past = nn.KVCache | nn.DecoderPast

LogitsCallback = Callable[[Sequence[int], NDArray[np.float32]], "NDArray[Any] | None"]

# A prompt keeps at least so many tokens of its own after a shared beginning: attention with fewer rows over a
# long past takes another plan, and what else is in the batch would show in the bits of a result.
_OWN_TOKENS = 17


@dataclass(frozen=True)
class Step:
    """One token of one sequence.

    Parameters
    ----------
    row
        The place of its prompt.
    token
        Its number.
    logprob
        The logarithm of its probability under the model, before temperature and filters.
    """

    row: int
    token: int
    logprob: float


def check_prompts(model: TokenModel, prompts: Sequence[Sequence[int]], new_tokens: int) -> list[list[int]]:
    """Return prompts as lists of token numbers that the model can continue by `new_tokens`.

    Raises
    ------
    TypeError, ValueError
        If a prompt is empty, too long, or holds what is no token.
    """
    if isinstance(new_tokens, bool) or not isinstance(new_tokens, (int, np.integer)):
        raise TypeError(f"generate: max_new_tokens must be an integer, got {type(new_tokens).__name__}")
    if new_tokens < 1:
        raise ValueError(f"generate: max_new_tokens must be at least 1, got {new_tokens}")
    checked: list[list[int]] = []
    for number, prompt in enumerate(prompts):
        ids = model.check_ids("generate", prompt)
        if ids.ndim != 1:
            raise ValueError(f"generate: prompt {number} must be one sequence, got shape {ids.shape}")
        if ids.size >= model.context_length:
            raise ValueError(
                f"generate: prompt {number} has {ids.size} tokens, which leaves no room in a context of "
                f"{model.context_length}"
            )
        checked.append(ids.tolist())
    return checked


def prefill(
    model: TokenModel, prompts: Sequence[Sequence[int]], capacity: int, past: Past | None = None
) -> tuple[Past, NDArray[np.float32]]:
    """Run prompts of any lengths; what all begin with is computed once, if nothing stands before it.

    Parameters
    ----------
    model
        Any decoder; an encoder-decoder needs `past`.
    prompts
        Token numbers, as `check_prompts` returns them.
    capacity
        The most tokens of a sequence, if the cache is made here.
    past
        What stands before each prompt; it is used up. Default: nothing.

    Returns
    -------
    past : KVCache or DecoderPast
        Of all prompts.
    logits : (B, V) float32 ndarray
        Of the token after each.
    """
    if past is not None:
        return _go_on(model, prompts, past)
    if not isinstance(model, Decoder):
        raise ValueError(f"generate: {type(model).__name__} needs past, which begin makes of a memory")
    shared = _shared(prompts)
    if shared:
        beginning = model.cache(1, capacity)
        model.hidden(np.array([prompts[0][:shared]], np.intp), beginning)
        caches = beginning.fork(len(prompts))
    else:
        caches = [model.cache(1, capacity) for _ in prompts]
    last = [
        model.hidden(np.array([prompt[shared:]], np.intp), cache)[:, -1]
        for prompt, cache in zip(prompts, caches, strict=True)
    ]
    return nn.KVCache.join(caches), model.logits(np.concatenate(last))


def _go_on(
    model: TokenModel, prompts: Sequence[Sequence[int]], past: Past
) -> tuple[Past, NDArray[np.float32]]:
    """Run prompts after `past`, those of one length together: padding would show in the bits."""
    if len(prompts) != past.batch_size:
        raise ValueError(f"generate: there are {len(prompts)} prompts, but past is of {past.batch_size}")
    groups: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        groups.setdefault(len(prompt), []).append(row)
    if len(groups) == 1:
        return past, model.logits(model.hidden(np.array(prompts, np.intp), past)[:, -1])
    parts: list[Any] = list(past.fork(len(groups)))
    last = []
    for rows, part in zip(groups.values(), parts, strict=True):
        part.reorder(rows)
        last.append(model.hidden(np.array([prompts[row] for row in rows], np.intp), part)[:, -1])
    places = np.argsort(np.concatenate(list(groups.values())))
    whole: Past = type(past).join(parts)
    whole.reorder(places)
    return whole, model.logits(np.concatenate(last)[places])


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """Count the tokens that all prompts begin with, leaving each its own."""
    if len(prompts) < 2:
        return 0
    shared = 0
    for column in zip(*prompts, strict=False):
        if len(set(column)) > 1:
            break
        shared += 1
    return max(0, min(shared, min(map(len, prompts)) - _OWN_TOKENS))


def decode(
    model: TokenModel,
    prompts: Sequence[Sequence[int]],
    *,
    past: Past | None = None,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int | None = None,
    logits_callback: LogitsCallback | None = None,
    finished: Callable[[Step], bool],
) -> Iterator[Step]:
    """Generate token by token, greedily or by drawing.

    Parameters
    ----------
    model
        Any decoder; an encoder-decoder needs `past`.
    prompts
        Token numbers, as `check_prompts` returns them: for an encoder-decoder the first of the target.
    past
        What stands before each prompt, of as many sequences; it is used up. Default: nothing.
    max_new_tokens
        The most for each prompt; the context may end it before.
    sampling
        How to choose.
    seed
        Prompt i draws from a generator made of (seed, i), so what it gets does not depend on the others.
    logits_callback
        Called for each sequence with all its tokens and the logits (V,) after them, which it may change in
        place or replace by returning others.
    finished
        Asked after each token whether its sequence ends there.

    Yields
    ------
    Step
        For each step, one of every sequence that goes on.
    """
    if not prompts:
        return
    capacity = min(max(map(len, prompts)) + max_new_tokens, model.context_length)
    before = [0] * len(prompts) if past is None else past.positions.tolist()
    cache, logits = prefill(model, prompts, capacity, past)
    streams = [np.random.default_rng(None if seed is None else [seed, row]) for row in range(len(prompts))]
    sequences = [list(prompt) for prompt in prompts]
    rows = list(range(len(prompts)))
    for step in range(max_new_tokens):
        going = []
        for place, row in enumerate(rows):
            scores = adjust(logits[place], sequences[row], sampling, logits_callback)
            token = sampling.choose(scores, streams[row])
            found = Step(row, token, float(log_softmax64(logits[place])[token]))
            sequences[row].append(token)
            full = before[row] + len(sequences[row]) >= model.context_length
            if not finished(found) and not full:
                going.append(place)
            yield found
        if not going or step + 1 == max_new_tokens:
            return
        if len(going) < len(rows):
            cache.reorder(going)
            rows = [rows[place] for place in going]
        tokens = np.array([[sequences[row][-1]] for row in rows], np.intp)
        logits = model.logits(model.hidden(tokens, cache)[:, -1])


def adjust(
    logits: NDArray[np.float32],
    sequence: Sequence[int],
    sampling: Sampling,
    logits_callback: LogitsCallback | None,
) -> NDArray[Any]:
    """Apply the caller's function and the penalty to logits (V,), which stay as they are."""
    if logits_callback is not None:
        logits = _call(logits_callback, sequence, logits)
    return sampling.penalise(logits, sequence)


def chain(*callbacks: LogitsCallback | None) -> LogitsCallback | None:
    """Make one callback of several, each of which gets the logits that those before it have made."""
    present = [callback for callback in callbacks if callback is not None]
    if len(present) < 2:
        return present[0] if present else None

    def call_all(sequence: Sequence[int], logits: NDArray[np.float32]) -> NDArray[Any]:
        for callback in present:
            logits = _call(callback, sequence, logits)
        return logits

    return call_all


def _call(callback: LogitsCallback, sequence: Sequence[int], logits: NDArray[Any]) -> NDArray[Any]:
    own = logits.copy()
    replaced = callback(tuple(sequence), own)
    result = own if replaced is None else np.asarray(replaced)
    if result.shape != logits.shape:
        raise ValueError(f"generate: logits_callback returned shape {result.shape}, not {logits.shape}")
    return result
