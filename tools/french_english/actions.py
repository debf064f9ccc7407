"""Patterns of sentences in which somebody does something."""

from __future__ import annotations

from random import Random

from french_english import lexicon, verbs
from french_english.clauses import Predicate, Subject, clause, draw_subject
from french_english.phrases import Phrase, noun_phrase, place, time
from french_english.pieces import NOTHING, asked, draw_end, draw_object, draw_predicate, joined_phrases

__all__ = [
    "command",
    "giving",
    "going",
    "intransitive",
    "liking",
    "living",
    "pronoun_object",
    "speaking",
    "time_first",
    "transitive",
]


def transitive(rng: Random) -> tuple[Phrase, str]:
    """Draw an action on an object: je mange une pomme."""
    verb = rng.choice(verbs.TRANSITIVE_VERBS)
    subject = draw_subject(rng)
    predicate = draw_predicate(rng, verb)
    tail = draw_object(rng, subject, predicate)
    return asked(rng, subject, predicate, joined_phrases(tail, draw_end(rng, predicate)))


def liking(rng: Random) -> tuple[Phrase, str]:
    """Draw what somebody likes or loves: j'aime le pain."""
    subject = draw_subject(rng)
    verb = rng.choice([*verbs.LIKING_VERBS, verbs.LOVE, verbs.WISH])
    predicate = Predicate(verb, negation=rng.choice((None, None, None, "pas")))
    if verb in verbs.LIKING_VERBS:
        tail = noun_phrase(
            rng, verb.objects, determiners=("the", "the", "my", "this"), owner=subject.owner, general=True
        )
        tail.combinations.append((verb.infinitive, tail.head))
    else:
        tail = draw_object(rng, subject, predicate)
    return asked(rng, subject, predicate, tail)


_MANNERS = {"bien": "well", "mal": "badly", "beaucoup": "a lot", "vite": "fast", "lentement": "slowly"}


def intransitive(rng: Random) -> tuple[Phrase, str]:
    """Draw an action without an object, perhaps how it is done: elle chante bien."""
    verb = rng.choice([*verbs.INTRANSITIVE_VERBS, *verbs.ABSOLUTE_VERBS])
    subject = draw_subject(rng, ("person", "person", "animal"))
    predicate = draw_predicate(rng, verb)
    # Before a participle or after an infinitive the French adverb would stand elsewhere.
    simple = predicate.tense in ("present", "future") and predicate.governor is None and not predicate.adverb
    if simple and not verb.with_be and rng.random() < 0.25:
        manner = rng.choice(list(_MANNERS))
        tail = Phrase([manner], _MANNERS[manner].split())
    else:
        tail = draw_end(rng, predicate)
    return asked(rng, subject, predicate, tail)


def going(rng: Random) -> tuple[Phrase, str]:
    """Draw where somebody goes, or comes from: il va à la gare, il vient de Paris."""
    subject = draw_subject(rng)
    if rng.random() < 0.15:
        french, english = rng.choice(list(lexicon.CITIES.items()))
        city = Phrase(["de", french], ["from", english])
        return asked(rng, subject, draw_predicate(rng, verbs.COME), city)
    predicate = draw_predicate(rng, verbs.GO)
    draw = rng.random()
    if draw < 0.2:
        french, english = rng.choice(list(lexicon.CITIES.items()))
        where = Phrase(["à", french], ["to", english])
    elif draw < 0.4:
        french, (preposition, english) = rng.choice(list(lexicon.COUNTRIES.items()))
        where = Phrase([preposition, french], ["to", english])
    else:
        where = noun_phrase(
            rng, ["place"], determiners=("the", "the", "my"), owner=subject.owner, adjectives=0.1
        )
        where.french.insert(0, "à")
        where.english.insert(0, "to")
    after = time(rng, "present" if predicate.governor else predicate.tense) if rng.random() < 0.3 else NOTHING
    return asked(rng, subject, predicate, joined_phrases(where, after))


def living(rng: Random) -> tuple[Phrase, str]:
    """Draw where somebody lives."""
    subject = draw_subject(rng)
    return asked(rng, subject, draw_predicate(rng, verbs.LIVE), place(rng))


def speaking(rng: Random) -> tuple[Phrase, str]:
    """Draw a language that somebody speaks, or to whom: je parle à ton frère."""
    subject = draw_subject(rng)
    predicate = draw_predicate(rng, verbs.SPEAK)
    if rng.random() < 0.6:
        french, english = rng.choice(list(lexicon.LANGUAGES.items()))
        return asked(rng, subject, predicate, Phrase([french], [english]))
    who = noun_phrase(rng, ["person"], determiners=("the", "my", "a"), owner=subject.owner, adjectives=0.1)
    return asked(rng, subject, predicate, joined_phrases(Phrase(["à"], ["to"]), who))


def giving(rng: Random) -> tuple[Phrase, str]:
    """Draw what is given, shown or sent to whom."""
    subject = draw_subject(rng)
    predicate = draw_predicate(rng, rng.choice(verbs.DATIVE_VERBS))
    what = draw_object(rng, subject, predicate)
    if rng.random() < 0.5:
        name = rng.choice(list(lexicon.NAMES))
        who = Phrase([name], [name])
    else:
        who = noun_phrase(rng, ["person"], determiners=("the", "my"), owner=subject.owner, adjectives=0)
    return asked(rng, subject, predicate, joined_phrases(what, Phrase(["à"], ["to"]), who))


_OBJECT_PRONOUNS = {
    "me": "me",
    "te": "you",
    "le": "him",
    "la": "her",
    "nous": "us",
    "vous": "you",
    "les": "them",
}


def pronoun_object(rng: Random) -> tuple[Phrase, str]:
    """Draw a clause whose object is a pronoun; l' is left out, which may be him or her."""
    subject = draw_subject(rng)
    verb = rng.choice([verb for verb in verbs.TRANSITIVE_VERBS if "person" in verb.objects] + [verbs.LOVE])
    own = {
        "je": ("me",),
        "nous": ("nous", "me"),
        "tu": ("te", "vous"),
        "vous": ("te", "vous"),
        "on": ("nous", "me"),
    }
    elides = verb.infinitive[0] in "aeiouyéêh"
    possible = [
        word
        for word in _OBJECT_PRONOUNS
        if word not in own.get(subject.head, ()) and not (elides and word in ("le", "la"))
    ]
    word = rng.choice(possible)
    predicate = draw_predicate(rng, verb)
    if predicate.tense == "past":
        predicate.tense = "present"  # the participle would have to agree with what is not said
        predicate.adverb = None
    predicate.object_pronoun = word, _OBJECT_PRONOUNS[word]
    return asked(rng, subject, predicate, NOTHING)


def command(rng: Random) -> tuple[Phrase, str]:
    """Draw an imperative."""
    person = rng.choice((1, 3, 4))
    negation = rng.random() < 0.2
    transitive_verbs = [verb for verb in verbs.TRANSITIVE_VERBS if verb not in (verbs.HAVE, verbs.WANT)]
    verb = rng.choice([*transitive_verbs, *verbs.INTRANSITIVE_VERBS])
    tail = NOTHING
    if verb.objects:
        you = Subject(["tu"], ["you"], person, 1, "m", False)
        tail = draw_object(rng, you, Predicate(verb, negation="pas" if negation else None))
    french = [verb.imperative(person), *(["pas"] if negation else [])]
    english = [verb.base, *verb.particle]
    if person == 3:
        english = ["let", "us", *(["not"] if negation else []), *english]
    elif negation:
        english = ["do", "not", *english]
    return joined_phrases(Phrase([*(["ne"] if negation else []), *french], english), tail), rng.choice(
        ("!", "", ".")
    )


def time_first(rng: Random) -> tuple[Phrase, str]:
    """Begin with the time."""
    subject = draw_subject(rng, pronouns=0.7)
    verb = rng.choice([*verbs.TRANSITIVE_VERBS, *verbs.INTRANSITIVE_VERBS])
    predicate = draw_predicate(rng, verb, simple=True)
    predicate.adverb = None
    tail = draw_object(rng, subject, predicate) if verb.objects else NOTHING
    return joined_phrases(time(rng, predicate.tense), clause(subject, predicate, tail)), ""
