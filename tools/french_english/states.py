"""Patterns of sentences that say who, what, how or where somebody or something is."""

from __future__ import annotations

from random import Random

from french_english import lexicon, verbs
from french_english.clauses import Predicate, Subject, clause, draw_subject
from french_english.phrases import Phrase, noun_phrase, place
from french_english.pieces import NOTHING, asked, joined_phrases
from french_english.words import Adjective

__all__ = ["location", "naming", "presenting", "profession", "quality", "sensation"]


def _being(rng: Random, subject: Subject, tail: Phrase) -> tuple[Phrase, str]:
    """Make a clause with être."""
    negation = rng.choices((None, "pas", "jamais", "plus"), (75, 19, 3, 3))[0]
    tense = rng.choices(("present", "past", "future"), (80, 10, 10))[0]
    adverb = rng.choice(("souvent", "toujours")) if negation is None and rng.random() < 0.06 else None
    return asked(rng, subject, Predicate(verbs.BE, tense, None, negation, adverb), tail)


def profession(rng: Random) -> tuple[Phrase, str]:
    """Draw what somebody is, without an article in French: je suis étudiant."""
    subject = draw_subject(rng, pronouns=0.8)
    while subject.french == ["on"]:
        subject = draw_subject(rng, pronouns=0.8)
    female = subject.gender == "f"
    fitting = [
        noun
        for noun in lexicon.PROFESSIONS
        if (noun.gender == "f") == female or noun.singular in ("professeur", "médecin", "écrivain", "soldat")
    ]
    noun = rng.choice(fitting)
    if subject.plural:
        tail = Phrase([str(noun.plural)], [noun.english_plural])
    else:
        tail = Phrase([noun.singular], ["a", noun.english])
    return _being(rng, subject, tail)


def quality(rng: Random) -> tuple[Phrase, str]:
    """Draw what somebody or something is like, perhaps compared: la maison est très grande."""
    kinds = rng.choice(
        (
            ("person",),
            ("person",),
            ("animal",),
            ("thing", "clothes", "vehicle", "text", "food", "place", "door", "drink"),
        )
    )
    subject = draw_subject(rng, kinds, pronouns=0.6)
    while subject.french == ["on"]:
        subject = draw_subject(rng, kinds, pronouns=0.6)
    fitting = [adjective for adjective in lexicon.ADJECTIVES if subject.kind in adjective.kinds]
    adjective = rng.choice(fitting)
    french = [adjective.french(subject.gender, subject.plural)]
    english = [adjective.translation(subject.kind)]
    combinations = [(subject.head, adjective.forms[0])] if subject.head and not subject.pronoun else []
    draw = rng.random()
    gradable = adjective not in lexicon.NATIONALITIES
    if draw < 0.25 and gradable:
        compared = _compared(rng, subject, adjective)
        compared.combinations += combinations
        return _being(rng, subject, compared)
    if draw < 0.5 and gradable:
        word, translation = rng.choice((("très", "very"), ("trop", "too"), ("assez", "rather")))
        french.insert(0, word)
        english.insert(0, translation)
    elif draw < 0.6:
        second = rng.choice([other for other in fitting if other is not adjective])
        french += ["et", second.french(subject.gender, subject.plural)]
        english += ["and", second.translation(subject.kind)]
    return _being(rng, subject, Phrase(french, english, combinations=combinations))


def _compared(rng: Random, subject: Subject, adjective: Adjective) -> Phrase:
    """Compare: plus ... que, moins ... que, aussi ... que."""
    french = adjective.french(subject.gender, subject.plural)
    english = adjective.translation(subject.kind)
    other = noun_phrase(rng, [subject.kind], determiners=("the", "my", "this"), adjectives=0, plain=True)
    if subject.kind == "person" and rng.random() < 0.5:
        name = rng.choice(list(lexicon.NAMES))
        other = Phrase([name], [name])
    if adjective.forms[0] in ("bon", "mauvais"):  # meilleur, pire
        return Phrase([french], [english])
    if rng.random() < 0.4:
        word, first, second = rng.choice((("moins", "less", "than"), ("aussi", "as", "as")))
        return joined_phrases(Phrase([word, french, "que"], [first, english, second]), other)
    if adjective.comparative is None:
        more = ["more", english]
    else:
        more = [adjective.comparative[subject.kind == "person"]]
    return joined_phrases(Phrase(["plus", french, "que"], [*more, "than"]), other)


def location(rng: Random) -> tuple[Phrase, str]:
    """Draw where somebody or something is: le chat est sous la table."""
    subject = draw_subject(
        rng, ("person", "animal", "thing", "clothes", "vehicle", "text", "food"), pronouns=0.25
    )
    return _being(rng, subject, place(rng))


def presenting(rng: Random) -> tuple[Phrase, str]:
    """C'est, ce sont, il y a."""
    what = noun_phrase(rng, verbs.HAVE.objects | {"person", "place"}, determiners=("a", "a", "the", "my"))
    combinations = what.combinations
    negated = rng.random() < 0.2
    if rng.random() < 0.6:
        if what.english[0] == "some":
            del what.english[0]
        be = (["ce", "sont"], ["they", "are"]) if what.plural else (["c'", "est"], ["it", "is"])
        if negated:
            be = (
                (["ce", "ne", "sont", "pas"], ["they", "are", "not"])
                if what.plural
                else (["ce", "ne", "est", "pas"], ["it", "is", "not"])
            )
        return Phrase([*be[0], *what.french], [*be[1], *what.english], combinations=combinations), ""
    what = noun_phrase(rng, verbs.HAVE.objects | {"person"}, determiners=("a", "number"), negated=negated)
    be_there = ["there", "are" if what.plural else "is"]
    there = Phrase(["il", "y", "a"], be_there)
    if negated:
        there = Phrase(["il", "ne", "y", "a", "pas"], [*be_there, "not"])
    elif rng.random() < 0.2:
        what = joined_phrases(what, place(rng))
        return joined_phrases(Phrase(["est-ce", "que", *there.french], [*reversed(be_there)]), what), "?"
    return joined_phrases(there, what, place(rng) if rng.random() < 0.8 else NOTHING), ""


def sensation(rng: Random) -> tuple[Phrase, str]:
    """Avoir faim, avoir vingt ans: what one has in French one is in English."""
    subject = draw_subject(rng, pronouns=0.7)
    negation = rng.choice((None, None, None, "pas"))
    if rng.random() < 0.3:
        number = rng.choice(list(lexicon.NUMBERS))
        french, english = [number, "ans"], [lexicon.NUMBERS[number], "years", "old"]
    else:
        word = rng.choice(list(lexicon.SENSATIONS))
        french, english = [word], [lexicon.SENSATIONS[word]]
        if (
            word in ("faim", "soif", "froid", "chaud", "peur", "sommeil")
            and not negation
            and rng.random() < 0.3
        ):
            french.insert(0, "très")
            english.insert(0, "very")
    has = clause(subject, Predicate(verbs.HAVE, negation=negation), Phrase(french, []))
    question = rng.random() < 0.12
    is_ = clause(subject, Predicate(verbs.BE, negation=negation), Phrase([], english), question=question)
    return Phrase(has.french, is_.english, combinations=[*subject.combinations]), "?" if question else ""


_REFLEXIVE = ("me", "te", "se", "nous", "vous", "se")


_CALL_ONESELF = ("appelle", "appelles", "appelle", "appelons", "appelez", "appellent")


def naming(rng: Random) -> tuple[Phrase, str]:
    """Je m'appelle Marie: my name is Marie."""
    if rng.random() < 0.6:
        person, possessive = rng.choice(((0, "my"), (1, "your"), (2, "his"), (2, "her"), (4, "your")))
        french = {"my": "je", "his": "il", "her": "elle"}.get(possessive, "tu" if person == 1 else "vous")
        subject = Phrase([french], [possessive])
    else:
        person = 2
        who = noun_phrase(rng, ["person"], determiners=("the", "my"), adjectives=0, plain=True)
        subject = Phrase(who.french, [*who.english, "'s"])
        french = ""
    verb = [_REFLEXIVE[person], _CALL_ONESELF[person]]
    if french and french != "je" and rng.random() < 0.3:
        return (
            Phrase(["comment", *verb, f"-{french}"], ["what", "is", *subject.english, "name"]),
            "?",
        )
    name = rng.choice(list(lexicon.NAMES))
    if rng.random() < 0.2:
        return Phrase(
            [*subject.french, "ne", *verb, "pas", name], [*subject.english, "name", "is", "not", name]
        ), ""
    return Phrase([*subject.french, *verb, name], [*subject.english, "name", "is", name]), ""
