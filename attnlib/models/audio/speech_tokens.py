"""The tokens by which Whisper is told what to write, and the rules that what it writes obeys.

A transcript is ``<|startoftranscript|>``, the language and the task (in models of several languages), then
either ``<|notimestamps|>`` and text, or text between tokens of time, then ``<|endoftext|>``: section 2.3 of
A. Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022, arXiv:2212.04356.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SpeechTokens", "TranscriptRules"]

_LANGUAGE = re.compile(r"<\|([a-z]{2,3})\|>")

# A transcript begins within so many steps of time, one second.
_LATEST_BEGINNING = 50


@dataclass(frozen=True)
class SpeechTokens:
    """The numbers of the tokens that are not text.

    Parameters
    ----------
    start, end
        ``<|startoftranscript|>`` and ``<|endoftext|>``.
    no_timestamps
        ``<|notimestamps|>``. The tokens of time follow it, from 0 in steps of 20 ms.
    previous
        ``<|startofprev|>``, before the text of the window before.
    no_speech
        ``<|nospeech|>`` or ``<|nocaptions|>``.
    tasks
        ``<|transcribe|>`` and ``<|translate|>`` by their names; empty for English alone.
    languages
        By their codes; empty for English alone.
    suppressed, suppressed_first
        Tokens that are never written, and those that are not written first.
    """

    start: int
    end: int
    no_timestamps: int
    previous: int
    no_speech: int
    tasks: Mapping[str, int] = field(default_factory=dict)
    languages: Mapping[str, int] = field(default_factory=dict)
    suppressed: tuple[int, ...] = ()
    suppressed_first: tuple[int, ...] = ()

    @classmethod
    def find(
        cls,
        vocabulary: Mapping[str, int],
        *,
        size: int,
        multilingual: bool,
        suppressed: Sequence[int] = (),
        suppressed_first: Sequence[int] = (),
    ) -> SpeechTokens:
        """Find the tokens in a vocabulary.

        Parameters
        ----------
        vocabulary
            The numbers of all tokens, by their names.
        size
            How many tokens the model knows; a tokenizer's file may say otherwise.
        multilingual
            Whether the model was trained on several languages.
        suppressed, suppressed_first
            As the class has them.

        Raises
        ------
        ValueError
            If one is missing, or is none that the model knows.
        """

        def number(*names: str) -> int:
            for name in names:
                if name in vocabulary:
                    found = vocabulary[name]
                    if not 0 <= found < size:
                        raise ValueError(f"{name} is token {found}, but the model has {size} tokens")
                    return found
            raise ValueError(f"the vocabulary has no {' or '.join(names)}")

        # The vocabulary of the models for English names the languages too, but they never saw one.
        names = (match for name in vocabulary if (match := _LANGUAGE.fullmatch(name)))
        found = {match[1]: number(match[0]) for match in names} if multilingual else {}
        tasks = {name: number(f"<|{name}|>") for name in ("transcribe", "translate")}
        return cls(
            start=number("<|startoftranscript|>"),
            end=number("<|endoftext|>"),
            no_timestamps=number("<|notimestamps|>"),
            previous=number("<|startofprev|>"),
            no_speech=number("<|nospeech|>", "<|nocaptions|>"),
            tasks=tasks if multilingual else {},
            languages=dict(sorted(found.items())),
            suppressed=tuple(suppressed),
            suppressed_first=tuple(suppressed_first),
        )

    @property
    def first_timestamp(self) -> int:
        """The token of time 0, ``<|0.00|>``."""
        return self.no_timestamps + 1

    def prompt(self, language: str | None, task: str, timestamps: bool) -> list[int]:
        """Make the beginning of a transcript."""
        ids = [self.start]
        if self.languages and language is not None:
            ids += [self.languages[language], self.tasks[task]]
        return ids if timestamps else [*ids, self.no_timestamps]


@dataclass(frozen=True)
class TranscriptRules:
    """What a transcript must look like, as a `LogitsCallback`: what breaks the rules gets ``-inf``.

    Timestamps stand in pairs, the end of a segment before the beginning of the next, except the last of all;
    they never go back, and a segment takes time; the first token is one, of the first second. When all
    timestamps together are likelier than the likeliest other token, one of them follows (the rules of
    OpenAI's implementation, https://github.com/openai/whisper, whisper/decoding.py).

    Parameters
    ----------
    tokens
        Which they are.
    prompt
        The tokens before the transcript.
    timestamps
        Whether it has any.
    """

    tokens: SpeechTokens
    prompt: int
    timestamps: bool

    def __call__(self, sequence: Sequence[int], logits: NDArray[Any]) -> None:
        """Forbid tokens after `sequence` in `logits` (V,), in place."""
        tokens = self.tokens
        written = sequence[self.prompt :]
        logits[list(tokens.suppressed)] = -np.inf
        if not written:
            logits[list(tokens.suppressed_first)] = -np.inf
        if not self.timestamps:
            return
        first = tokens.first_timestamp
        logits[tokens.no_timestamps] = -np.inf
        if not written:
            logits[:first] = -np.inf
            logits[first + _LATEST_BEGINNING + 1 :] = -np.inf
            return
        closing = written[-1] >= first
        opened = len(written) < 2 or written[-2] >= first
        if closing and opened:
            logits[first:] = -np.inf
        elif closing:
            # A pair wants its second; or the end comes.
            logits[: tokens.end] = -np.inf
        last = max((token for token in written if token >= first), default=first - 1)
        logits[first : last if closing and not opened else last + 1] = -np.inf
        times = logits[first:].astype(np.float64)
        if times.size and (highest := times.max()) > -np.inf:
            together = highest + np.log(np.exp(times - highest).sum())
            if together > logits[:first].max():
                logits[:first] = -np.inf
