"""Patterns of sentences with two clauses."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from french_english import lexicon, verbs
from french_english.actions import intransitive, liking, transitive
from french_english.clauses import Predicate, as_subject, clause, draw_subject, pronoun
from french_english.phrases import Phrase, noun_phrase
from french_english.pieces import NOTHING, draw_object, joined_phrases
from french_english.states import quality, sensation

__all__ = ["relative_clause", "two_clauses"]


def relative_clause(rng: Random) -> tuple[Phrase, str]:
    """Draw a subject or an object with a relative clause: qui, que."""
    if rng.random() < 0.5:
        head = noun_phrase(rng, ["person"], determiners=("the", "a"), adjectives=0)
        who = as_subject(Phrase(["qui"], ["who"], head.gender, head.plural, "person", head.head))
        verb = rng.choice(verbs.TRANSITIVE_VERBS)
        predicate = Predicate(verb, rng.choice(("present", "past")))
        relative = clause(who, predicate, draw_object(rng, who, predicate))
    else:
        verb = rng.choice([verb for verb in verbs.TRANSITIVE_VERBS if "thing" in verb.objects])
        head = noun_phrase(rng, verb.objects - {"person", "animal"}, determiners=("the",), adjectives=0)
        by = pronoun(rng)
        relative = clause(by, Predicate(verb, "present"), NOTHING)
        relative = Phrase(["que", *relative.french], ["that", *relative.english])
        relative.combinations.append((verb.infinitive, head.head))
    full = joined_phrases(head, relative)
    if rng.random() < 0.4:
        subject = draw_subject(rng, pronouns=0.8)
        see = Predicate(rng.choice(verbs.TRANSITIVE_VERBS))
        while head.kind not in see.verb.objects:
            see = Predicate(rng.choice(verbs.TRANSITIVE_VERBS))
        return clause(subject, see, full), ""
    adjective = rng.choice([each for each in lexicon.ADJECTIVES if head.kind in each.kinds])
    be = verbs.BE.present[5 if head.plural else 2], "are" if head.plural else "is"
    quality = Phrase(
        [be[0], adjective.french(head.gender, head.plural)],
        [be[1], adjective.translation(head.kind)],
        combinations=[(head.head, adjective.forms[0])],
    )
    return joined_phrases(full, quality), ""


def two_clauses(rng: Random) -> tuple[Phrase, str]:
    """Join two short clauses."""
    simple: tuple[Callable[[Random], tuple[Phrase, str]], ...] = (
        intransitive,
        transitive,
        quality,
        sensation,
        liking,
    )
    halves = []
    while len(halves) < 2:
        phrase, mark = rng.choice(simple)(rng)
        if not mark and len(phrase.french) <= 6:
            halves.append(phrase)
    word, english = rng.choice((("et", "and"), ("mais", "but"), ("parce que", "because"), ("ou", "or")))
    return joined_phrases(halves[0], Phrase(word.split(), [english]), halves[1]), ""
