"""Clauses: a subject, a conjugated verb with negation and adverbs, and what follows, in both languages."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from french_english import lexicon, verbs
from french_english.phrases import Phrase, noun_phrase
from french_english.words import Verb, third_person

__all__ = ["ADVERBS", "NEGATIONS", "PRONOUNS", "Predicate", "Subject", "clause", "draw_subject"]

NEGATIONS = {"pas": "not", "jamais": "never", "plus": "no longer"}
ADVERBS = {"souvent": "often", "toujours": "always", "parfois": "sometimes", "déjà": "already"}

_I, _YOU, _HE, _THEY = 0, 1, 2, 5
_MODALS = ("can", "must", "would")
_BE_PRESENT = ("am", "are", "is", "are", "are", "are")
_BE_PAST = ("was", "were", "was", "were", "were", "were")


@dataclass
class Subject:
    """Who or what a clause is about.

    Parameters
    ----------
    french, english
        The words.
    person
        Of the French verb: je, tu, il, nous, vous, ils are 0 to 5.
    english_person
        Of the English verb, counted likewise.
    gender, plural
        What participles and adjectives agree with.
    kind, head
        As in `Phrase`.
    owner
        What son, sa, ses are in English if it is the subject's: "his", "her", or None if they may not occur.
    pronoun
        Whether it is one, which may follow its verb in a question.
    combinations
        As in `Phrase`.
    """

    french: list[str]
    english: list[str]
    person: int
    english_person: int
    gender: str
    plural: bool
    kind: str = "person"
    head: str = ""
    owner: str | None = None
    pronoun: bool = False
    combinations: list[tuple[str, str]] = field(default_factory=list)


# French, English, persons of both, gender and plural (None: either).
PRONOUNS: list[tuple[str, str, int, int, str | None, bool | None]] = [
    ("je", "i", 0, 0, None, False),
    ("tu", "you", 1, 1, None, False),
    ("il", "he", 2, 2, "m", False),
    ("elle", "she", 2, 2, "f", False),
    ("on", "we", 2, 3, "m", False),
    ("nous", "we", 3, 3, None, True),
    ("vous", "you", 4, 1, None, None),
    ("ils", "they", 5, 5, "m", True),
    ("elles", "they", 5, 5, "f", True),
]


def pronoun(rng: Random) -> Subject:
    """Draw a pronoun."""
    french, english, person, english_person, gender, plural = rng.choice(PRONOUNS)
    gender = gender or rng.choice("mf")
    owner = {"il": "his", "elle": "her"}.get(french)
    number = rng.random() < 0.5 if plural is None else plural
    return Subject(
        [french], [english], person, english_person, gender, number, owner=owner, pronoun=True, head=french
    )


def draw_subject(rng: Random, kinds: tuple[str, ...] = ("person",), pronouns: float = 0.5) -> Subject:
    """Draw a subject: a pronoun, a name, a noun phrase, or two of them joined."""
    draw = rng.random()
    if "person" in kinds and draw < pronouns:
        return pronoun(rng)
    if "person" in kinds and draw < pronouns + 0.12:
        names = rng.sample(list(lexicon.NAMES), 1 if rng.random() < 0.75 else 2)
        genders = {lexicon.NAMES[name] for name in names}
        gender = "f" if genders == {"f"} else "m"
        plural = len(names) == 2
        return Subject(
            [names[0], "et", names[1]] if plural else names,
            [names[0], "and", names[1]] if plural else names,
            _THEY if plural else _HE,
            _THEY if plural else _HE,
            gender,
            plural,
            head="",
            owner=None if plural else "her" if gender == "f" else "his",
        )
    phrase = noun_phrase(rng, kinds, determiners=("the", "the", "a", "my", "this"), adjectives=0.2)
    return as_subject(phrase)


def as_subject(phrase: Phrase) -> Subject:
    """Make a noun phrase a subject."""
    person = _THEY if phrase.plural else _HE
    possible = phrase.kind == "person" and not phrase.plural
    owner = ("her" if phrase.gender == "f" else "his") if possible else None
    return Subject(
        phrase.french,
        phrase.english,
        person,
        person,
        phrase.gender,
        phrase.plural,
        phrase.kind,
        phrase.head,
        owner,
        combinations=phrase.combinations,
    )


@dataclass
class Predicate:
    """What a verb does in a clause.

    Parameters
    ----------
    verb
        The verb that carries the meaning.
    tense
        ``"present"``, ``"past"`` (passé composé), ``"near"`` (aller with the infinitive) or ``"future"``.
    governor
        A verb in the present whose infinitive `verb` is: vouloir, pouvoir.
    negation, adverb
        Keys of `NEGATIONS`, `ADVERBS`, or None.
    object_pronoun
        French and English, or None.
    """

    verb: Verb
    tense: str = "present"
    governor: Verb | None = None
    negation: str | None = None
    adverb: str | None = None
    object_pronoun: tuple[str, str] | None = None


def clause(
    subject: Subject,
    predicate: Predicate,
    tail: Phrase,
    *,
    question: bool = False,
    inverted: bool = False,
) -> Phrase:
    """Put a clause together.

    Parameters
    ----------
    subject, predicate, tail
        Its parts; the tail is what follows the verb.
    question
        Whether English asks; the French order is that of a statement unless `inverted`.
    inverted
        Whether a French pronoun follows its verb.
    """
    combinations = [*subject.combinations, *tail.combinations]
    if subject.head and not subject.pronoun:
        combinations.append((subject.head, predicate.verb.infinitive))
    return Phrase(
        _french(subject, predicate, inverted) + tail.french,
        _english(subject, predicate, question) + tail.english,
        combinations=combinations,
    )


def _french(subject: Subject, predicate: Predicate, inverted: bool) -> list[str]:
    verb, person = predicate.verb, subject.person
    pronoun = [predicate.object_pronoun[0]] if predicate.object_pronoun else []
    rest: list[str] = []
    if predicate.governor is not None:
        finite, rest = predicate.governor.present[person], [*pronoun, verb.infinitive]
    elif predicate.tense == "near":
        finite, rest = verbs.GO.present[person], [*pronoun, verb.infinitive]
    elif predicate.tense == "past":
        finite = (verbs.BE if verb.with_be else verbs.HAVE).present[person]
        rest = [verb.agreed_participle(subject.gender, subject.plural) if verb.with_be else verb.participle]
    else:
        finite = verb.present[person] if predicate.tense == "present" else verb.future(person)
    before = [] if rest else pronoun
    around = [word for word in (predicate.negation, predicate.adverb) if word]
    first = ["ne"] if predicate.negation else []
    if not inverted:
        return [*subject.french, *first, *before, finite, *around, *rest]
    link = "-t" if finite[-1] in "ae" and subject.person == _HE else ""
    return [*first, *before, finite, f"{link}-{subject.french[0]}", *around, *rest]


def _english(subject: Subject, predicate: Predicate, question: bool) -> list[str]:
    verb, person, tense = predicate.verb, subject.english_person, predicate.tense
    adverbs = [ADVERBS[predicate.adverb]] if predicate.adverb else []
    negated = predicate.negation == "pas"
    if predicate.negation and not negated:
        adverbs = NEGATIONS[predicate.negation].split()
    auxiliary: str | None = None
    rest: list[str] = []
    main, following = verb, [*verb.particle]
    if predicate.object_pronoun:
        following.append(predicate.object_pronoun[1])
    if predicate.governor is not None:
        main = predicate.governor
        following = [*main.particle, verb.base, *following]
    if tense in ("present", "past"):
        if main.base == "be":
            auxiliary = (_BE_PRESENT if tense == "present" else _BE_PAST)[person]
        elif main.base in _MODALS:
            auxiliary = main.base
        elif negated or question:
            auxiliary = "did" if tense == "past" else "does" if person == _HE else "do"
            rest = [main.base]
        elif tense == "past":
            rest = [main.past]
        else:
            rest = [third_person(main.base) if person == _HE else main.base]
    elif tense == "near":
        auxiliary, rest = _BE_PRESENT[person], ["going", "to", verb.base]
    else:
        auxiliary, rest = "will", [verb.base]
    head = [] if auxiliary is None else [auxiliary]
    denial = ["not"] if negated else []
    if question:
        return [*head, *subject.english, *denial, *adverbs, *rest, *following]
    if negated and auxiliary == "can":
        head, denial = ["cannot"], []
    return [*subject.english, *head, *denial, *adverbs, *rest, *following]
