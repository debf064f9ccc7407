"""What most patterns of sentences are made of."""

from __future__ import annotations

from random import Random

from french_english import lexicon, verbs
from french_english.clauses import ADVERBS, Predicate, Subject, clause
from french_english.phrases import Phrase, companion, noun_phrase, place, time
from french_english.words import Verb

__all__ = ["NOTHING", "asked", "draw_end", "draw_object", "draw_predicate", "joined_phrases"]

NOTHING = Phrase([], [])


def joined_phrases(phrase: Phrase, *others: Phrase) -> Phrase:
    """Put phrases after one another."""
    every = (phrase, *others)
    return Phrase(
        [word for each in every for word in each.french],
        [word for each in every for word in each.english],
        combinations=[pair for each in every for pair in each.combinations],
    )


def draw_predicate(rng: Random, verb: Verb, *, simple: bool = False) -> Predicate:
    """Draw tense, negation and the like for a verb."""
    negation = rng.choices((None, "pas", "jamais", "plus"), (70, 20, 5, 5))[0]
    if not simple and rng.random() < 0.2:
        return Predicate(
            verb, governor=rng.choice(verbs.INFINITIVE_VERBS), negation="pas" if negation else None
        )
    tense = rng.choices(("present", "past", "near", "future"), (45, 25, 12, 18))[0]
    adverb = None
    if negation is None and tense in ("present", "past") and rng.random() < 0.15:
        adverb = rng.choice([word for word in ADVERBS if word != "déjà" or tense == "past"])
    return Predicate(verb, tense, None, negation, adverb)


def draw_object(rng: Random, subject: Subject, predicate: Predicate) -> Phrase:
    """Draw the direct object of a verb."""
    verb = predicate.verb
    if "person" in verb.objects and rng.random() < 0.15:
        name = rng.choice(list(lexicon.NAMES))
        return Phrase([name], [name])
    negated = predicate.negation is not None
    determiners = ("the", "a", "my", "this", "number", "many")
    phrases = []
    for _ in range(1 if negated or rng.random() > 0.1 else 2):
        phrase = noun_phrase(rng, verb.objects, determiners=determiners, owner=subject.owner, negated=negated)
        phrase.combinations.append((verb.infinitive, phrase.head))
        phrases.append(phrase)
    if len(phrases) == 2:
        phrases.insert(1, Phrase(["et"], ["and"]))
    return joined_phrases(*phrases)


def draw_end(rng: Random, predicate: Predicate) -> Phrase:
    """Draw what may stand at the end of a clause: where, with whom, when."""
    tense = "present" if predicate.governor else predicate.tense
    draw = rng.random()
    if draw < 0.12:
        return place(rng)
    if draw < 0.24:
        return companion(rng)
    if draw < 0.42 and predicate.adverb is None:
        return time(rng, tense)
    return NOTHING


def asked(rng: Random, subject: Subject, predicate: Predicate, tail: Phrase) -> tuple[Phrase, str]:
    """Make a statement of a clause, or now and then a question in one of three ways."""
    draw = rng.random()
    if draw > 0.2:
        return clause(subject, predicate, tail), ""
    if draw < 0.07:
        return clause(subject, predicate, tail, question=True), "?"
    if draw < 0.14 and subject.pronoun and subject.french != ["je"]:
        return clause(subject, predicate, tail, question=True, inverted=True), "?"
    asked = clause(subject, predicate, tail, question=True)
    return joined_phrases(Phrase(["est-ce", "que"], []), asked), "?"
