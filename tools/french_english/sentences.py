"""Sentences: some twenty patterns, drawn by chance, each with its translation.

Every French sentence has one translation. Where English offers several, a convention chooses: the passé
composé is the simple past, tu and vous are "you", on is "we", and son is "his" or "her" by the subject of its
sentence, without which it does not occur.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from french_english.actions import (
    command,
    giving,
    going,
    intransitive,
    liking,
    living,
    pronoun_object,
    speaking,
    time_first,
    transitive,
)
from french_english.compounds import relative_clause, two_clauses
from french_english.phrases import Phrase, join_english, join_french
from french_english.states import location, naming, presenting, profession, quality, sensation
from french_english.talk import question_word, small_talk

__all__ = ["Pair", "draw", "held_out", "pairs"]

_MOST_WORDS = 14

# Of all combinations (a verb with an object, a noun with an adjective, ...) one in so many is held out.
_HELD_OUT_OF = 40


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation.

    Parameters
    ----------
    french, english
        The sentences.
    combinations
        Pairs of words with content of their own that meet in it.
    """

    french: str
    english: str
    combinations: frozenset[tuple[str, str]]


def held_out(pair: Pair) -> bool:
    """Return whether a combination of the sentence is one that no training sentence may have.

    It depends on the two words alone, so no choice of seeds can bring a held-out sentence into training.
    """
    return any(zlib.crc32(" ".join(words).encode()) % _HELD_OUT_OF == 0 for words in pair.combinations)


def pairs(seed: int) -> Iterator[Pair]:
    """Yield pairs without end; short sentences come again and again."""
    rng = Random(seed)
    while True:
        yield draw(rng)


def draw(rng: Random) -> Pair:
    """Draw one sentence with its translation."""
    patterns, weights = zip(*_PATTERNS.items(), strict=True)
    while True:
        phrase, mark = rng.choices(patterns, weights)[0](rng)
        if len(phrase.french) <= _MOST_WORDS:
            break
    # What is no question may have any other mark at its end, or none.
    end = [mark] if mark else rng.choice(([], [], [], [], ["."], ["."], ["!"]))
    return Pair(
        join_french([*phrase.french, *end]),
        join_english([*phrase.english, *end]),
        frozenset(phrase.combinations),
    )


_PATTERNS: dict[Callable[[Random], tuple[Phrase, str]], int] = {
    transitive: 22,
    liking: 6,
    intransitive: 10,
    going: 5,
    living: 2,
    speaking: 3,
    giving: 5,
    pronoun_object: 5,
    profession: 4,
    quality: 12,
    location: 5,
    presenting: 7,
    sensation: 3,
    naming: 2,
    small_talk: 3,
    question_word: 8,
    command: 4,
    relative_clause: 5,
    two_clauses: 5,
    time_first: 4,
}
