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
from attnlib.checks import check_integer
from attnlib.models.families.decoder import Decoder
from attnlib.models.families.token_model import TokenModel
from attnlib.models.generation.sampling import Sampling, log_probability

__all__ = [
    "LogitsCallback",
    "Past",
    "Step",
    "chain",
    "check_logits",
    "check_prompts",
    "decode",
    "prefill",
    "proceed",
]

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
        The logarithm of its probability under the model, before temperature and filters; if `decode` was told
        to renormalize, after the caller's function and the penalty.
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
    check_integer("generate", "max_new_tokens", new_tokens, 1)
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
    model: TokenModel, prompts: Sequence[Sequence[int]], capacity: int
) -> tuple[nn.KVCache, NDArray[np.float32]]:
    """Run prompts of any lengths; what all begin with is computed once.

    Returns
    -------
    cache : KVCache
        Of all prompts, with room for `capacity` tokens each.
    logits : (B, V) float32 ndarray
        Of the token after each.

    Raises
    ------
    ValueError
        If the model is an encoder-decoder: it has nothing to begin with but a past.
    """
    if not isinstance(model, Decoder):
        raise ValueError(f"generate: {type(model).__name__} needs past, which its begin makes of a memory")
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
    joined = caches[0] if len(caches) == 1 else nn.KVCache.join(caches)
    return joined, model.logits(np.concatenate(last))


def proceed(
    model: TokenModel, prompts: Sequence[Sequence[int]], past: Past
) -> tuple[Past, NDArray[np.float32]]:
    """Run the tokens of prompts that are not in `past` yet, and return what `prefill` does.

    If equally many of each are left, the past that is returned is `past` itself.

    Raises
    ------
    ValueError
        If `past` is not of as many sequences, or holds all of a prompt.
    """
    positions = past.positions.tolist()
    if len(positions) != len(prompts):
        raise ValueError(f"generate: past holds {len(positions)} sequences for {len(prompts)} prompts")
    rest = [prompt[start:] for prompt, start in zip(prompts, positions, strict=True)]
    if not all(rest):
        raise ValueError(
            f"generate: past holds {positions} tokens of prompts of {[*map(len, prompts)]}: at least one of "
            f"each must be left"
        )
    # Those of one length are run together: padding would show in the bits.
    groups: dict[int, list[int]] = {}
    for row, tokens in enumerate(rest):
        groups.setdefault(len(tokens), []).append(row)
    if len(groups) == 1:
        return past, model.logits(model.hidden(np.array(rest, np.intp), past)[:, -1])
    parts: list[Any] = list(past.fork(len(groups)))
    last = []
    for rows, part in zip(groups.values(), parts, strict=True):
        part.reorder(rows)
        last.append(model.hidden(np.array([rest[row] for row in rows], np.intp), part)[:, -1])
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
    renormalize: bool = False,
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
        What holds the first tokens of each prompt, or none of them, but not all; it is changed. Default: an
        empty cache, which begins with what all prompts share.
    max_new_tokens
        The most for each prompt; the context may end it before.
    sampling
        How to choose.
    seed
        Prompt i draws from a generator made of (seed, i), so what it gets does not depend on the others.
    logits_callback
        Called for each sequence with all its tokens and the logits (V,) after them, which it may change in
        place or replace by returning others.
    renormalize
        Whether a step's log-probability is that among the tokens that `logits_callback` has left. Default
        False: under the model, whatever the rules.
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
    cache: Past
    if past is None:
        cache, logits = prefill(model, prompts, capacity)
    else:
        cache, logits = proceed(model, prompts, past)
    streams = [np.random.default_rng(None if seed is None else [seed, row]) for row in range(len(prompts))]
    sequences = [list(prompt) for prompt in prompts]
    rows = list(range(len(prompts)))
    for step in range(max_new_tokens):
        check_logits(logits)
        going = []
        for place, row in enumerate(rows):
            scores = adjust(logits[place], sequences[row], sampling, logits_callback)
            token = sampling.choose(scores, streams[row])
            found = Step(row, token, log_probability(scores if renormalize else logits[place], token))
            sequences[row].append(token)
            full = len(sequences[row]) >= model.context_length
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
    if not _possible(result):
        raise ValueError("generate: logits_callback left NaN or infinity, or no token that is possible")
    return result


def check_logits(logits: NDArray[np.float32]) -> None:
    """Raise a ValueError if what the model makes of its tokens is no scores."""
    if not _possible(logits):
        raise ValueError("generate: the model's logits hold NaN or infinity")


def _possible(logits: NDArray[Any]) -> bool:
    """Whether each row has tokens that are possible, and neither NaN nor infinity above."""
    with np.errstate(invalid="ignore"):
        # The highest is NaN if any is.
        return bool(np.isfinite(logits.max(axis=-1)).all())
