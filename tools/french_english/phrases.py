"""Noun phrases, adverbial phrases, and what sounds do to neighbouring words, in both languages at once.

A phrase is a list of French and one of English words. French words stand there in their full form ("le",
"de", "je"); `join_french` elides and contracts them when the sentence is complete.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from random import Random

from french_english import lexicon
from french_english.words import Adjective, Noun, begins_with_vowel

__all__ = ["Phrase", "companion", "join_english", "join_french", "noun_phrase", "place", "time"]

_ELIDED = frozenset(("le", "la", "je", "ne", "de", "me", "te", "se", "que"))
_CONTRACTED = {"de le": "du", "de les": "des", "à le": "au", "à les": "aux"}
_POSSESSIVES = {
    "mon ma mes": "my",
    "ton ta tes": "your",
    "notre notre nos": "our",
    "votre votre vos": "your",
    "leur leur leurs": "their",
}
_SOME, _ANY = "some", "any"


@dataclass
class Phrase:
    """A phrase in both languages.

    Parameters
    ----------
    french, english
        The words.
    gender, plural
        Of a noun phrase: what agrees with it.
    kind, head
        Of a noun phrase: what it is, and the French noun.
    combinations
        Pairs of words that occur together in it: a noun and its adjective, a verb and its object.
    """

    french: list[str]
    english: list[str]
    gender: str = "m"
    plural: bool = False
    kind: str = ""
    head: str = ""
    combinations: list[tuple[str, str]] = field(default_factory=list)


def join_french(words: Sequence[str]) -> str:
    """Write French words as a text, with elision (l'homme, n'ai) and contraction (du, aux)."""
    # De swallows the article des: près d'arbres.
    words = [
        word
        for place, word in enumerate(words)
        if not (place and words[place - 1] == "de" and word in ("de", "des"))
    ]
    for place, following in enumerate(words[1:]):
        if words[place] in _ELIDED and begins_with_vowel(following):
            words[place] = words[place][:-1] + "'"
    text = ""
    place = 0
    while place < len(words):
        contracted = _CONTRACTED.get(" ".join(words[place : place + 2]))
        word = contracted or words[place]
        place += 2 if contracted else 1
        glued = not text or text.endswith("'") or word.startswith((".", ",", "-"))
        text += word if glued else f" {word}"
    return text


def join_english(words: Sequence[str]) -> str:
    """Write English words as a text, with "an" where "a" meets a vowel."""
    text = ""
    for place, word in enumerate(words):
        if word == "a" and words[place + 1][0] in "aeiou" and words[place + 1] != "university":
            word = "an"
        glued = not text or word.startswith((".", ",", "?", "!", "'"))
        text += word if glued else f" {word}"
    return text


def noun_phrase(
    rng: Random,
    kinds: Collection[str],
    *,
    determiners: Sequence[str] = ("the", "a", "my", "this", "number"),
    owner: str | None = None,
    negated: bool = False,
    general: bool = False,
    adjectives: float = 0.3,
    plain: bool = False,
) -> Phrase:
    """Draw a noun with its article or the like, and perhaps adjectives or a possessor.

    Parameters
    ----------
    rng
        Where chance comes from.
    kinds
        Of nouns.
    determiners
        Which kinds of them: ``"the"``, ``"a"``, ``"my"``, ``"this"``, ``"number"``, ``"many"``.
    owner
        "his" or "her", if son, sa, ses may occur: the English word for them in this sentence.
    negated
        Whether it is the object of a negated verb: then un, des and du become de.
    general
        Whether "the" has no English counterpart before plurals and stuff (j'aime le pain: I like bread).
    adjectives
        The probability of an adjective.
    plain
        Whether it must be singular, without a possessor.
    """
    noun = rng.choice([noun for noun in lexicon.NOUNS if noun.kind in kinds])
    stuff = noun.plural is None
    plural = not stuff and not plain and rng.random() < 0.35
    fitting = {"number": plural and not negated, "many": plural or stuff}
    kind = rng.choice([name for name in determiners if fitting.get(name, True)])
    # "pas de souris" could be one or many.
    if negated and kind == "a" and noun.singular == noun.plural:
        kind = "the"
    before, after = _adjectives(rng, noun, adjectives)
    gender = noun.gender
    french = [
        *(adjective.french(gender, plural, noun.singular) for adjective in before),
        (noun.plural or noun.singular) if plural else noun.singular,
        *(adjective.french(gender, plural) for adjective in after),
    ]
    english = [adjective.translation(noun.kind) for adjective in (*before, *after)]
    english.append(noun.english_plural if plural else noun.english)
    combinations = [(noun.singular, adjective.forms[0]) for adjective in (*before, *after)]
    phrase = Phrase(french, english, gender, plural, noun.kind, noun.singular, combinations)

    if kind == "the" and not general and not plain and rng.random() < 0.12:
        _give_possessor(rng, phrase)
    elif kind == "the":
        phrase.french.insert(0, "les" if plural else "la" if gender == "f" else "le")
        if not general or not (plural or stuff):
            phrase.english.insert(0, "the")
    elif kind == "a" and negated:
        phrase.french.insert(0, "de")
        phrase.english.insert(0, _ANY if plural or stuff else "a")
    elif kind == "a" and stuff:
        phrase.french[:0] = ["de", "la" if gender == "f" else "le"]
        phrase.english.insert(0, _SOME)
    elif kind == "a" and plural:
        phrase.french.insert(0, "de" if before else "des")
        phrase.english.insert(0, _SOME)
    elif kind == "a":
        phrase.french.insert(0, "une" if gender == "f" else "un")
        phrase.english.insert(0, "a")
    elif kind == "many":
        phrase.french[:0] = ["beaucoup", "de"]
        phrase.english.insert(0, "many" if plural else "much")
    elif kind == "number":
        number = rng.choice(list(lexicon.NUMBERS))
        phrase.french.insert(0, number)
        phrase.english.insert(0, lexicon.NUMBERS[number])
    else:
        _point(rng, phrase, kind, owner)
    return phrase


def _adjectives(rng: Random, noun: Noun, probability: float) -> tuple[list[Adjective], list[Adjective]]:
    """Draw those before the noun and those after it, at most one each."""
    if rng.random() >= probability:
        return [], []
    fitting = [adjective for adjective in lexicon.ADJECTIVES if noun.kind in adjective.kinds]
    before = [adjective for adjective in fitting if adjective.before]
    after = [adjective for adjective in fitting if not adjective.before]
    side = rng.random()
    if side < 0.2 and before and after:
        return [rng.choice(before)], [rng.choice(after)]
    chosen = rng.choice(fitting)
    return ([chosen], []) if chosen.before else ([], [chosen])


def _point(rng: Random, phrase: Phrase, kind: str, owner: str | None) -> None:
    """Put a possessive ("my") or a demonstrative ("this") before a noun."""
    column = 2 if phrase.plural else phrase.gender == "f"
    if kind == "my":
        possessives = {**_POSSESSIVES, **({"son sa ses": owner} if owner else {})}
        forms = rng.choice(list(possessives)) if owner is None or rng.random() < 0.5 else "son sa ses"
        english = possessives[forms]
    else:
        forms = "ce cette ces"
        english = "these" if phrase.plural else "this"
    word = forms.split()[column]
    if begins_with_vowel(phrase.french[0]) and not phrase.plural:
        word = "cet" if word == "ce" else word if kind == "this" else forms.split()[0]
    phrase.french.insert(0, word)
    phrase.english.insert(0, english)


def _give_possessor(rng: Random, phrase: Phrase) -> None:
    """Make it the N of a person, in English that person's N."""
    phrase.french.insert(0, "les" if phrase.plural else "la" if phrase.gender == "f" else "le")
    if rng.random() < 0.5:
        name = rng.choice(list(lexicon.NAMES))
        owner = Phrase([name], [name])
    else:
        owner = noun_phrase(rng, ["person"], determiners=("the", "my"), adjectives=0.15, plain=True)
    phrase.french += ["de", *owner.french]
    phrase.english[:0] = [*owner.english, "'s"]
    phrase.combinations += owner.combinations


# With the kinds of nouns that they go with.
_NEAR = ("place", "thing", "vehicle", "door")
_PREPOSITIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "dans": ("in", ("place",)),
    "sur": ("on", ("thing", "vehicle")),
    "sous": ("under", ("thing", "vehicle")),
    "devant": ("in front of", _NEAR),
    "derrière": ("behind", _NEAR),
    "à côté de": ("next to", _NEAR),
    "près de": ("near", _NEAR),
}
_TONIC = {
    "moi": "me",
    "toi": "you",
    "lui": "him",
    "elle": "her",
    "nous": "us",
    "vous": "you",
    "eux": "them",
    "elles": "them",
}


def place(rng: Random) -> Phrase:
    """Draw where something is."""
    if rng.random() < 0.15:
        french, (preposition, english) = rng.choice(list(lexicon.COUNTRIES.items()))
        return Phrase([preposition, french], ["in", english])
    if rng.random() < 0.15:
        french, english = rng.choice(list(lexicon.CITIES.items()))
        return Phrase(["à", french], ["in", english])
    preposition = rng.choice(list(_PREPOSITIONS))
    english, kinds = _PREPOSITIONS[preposition]
    where = noun_phrase(rng, kinds, determiners=("the", "the", "a", "my", "this"), adjectives=0.15)
    where.french[:0] = preposition.split()
    where.english[:0] = english.split()
    return where


def companion(rng: Random) -> Phrase:
    """Draw with whom or for whom something is done."""
    preposition, english = rng.choice((("avec", "with"), ("pour", "for"), ("sans", "without")))
    draw = rng.random()
    if draw < 0.35:
        pronoun = rng.choice(list(_TONIC))
        return Phrase([preposition, pronoun], [english, _TONIC[pronoun]])
    if draw < 0.6:
        name = rng.choice(list(lexicon.NAMES))
        return Phrase([preposition, name], [english, name])
    who = noun_phrase(rng, ["person"], determiners=("the", "a", "my"), adjectives=0.15)
    who.french.insert(0, preposition)
    who.english.insert(0, english)
    return who


_ALWAYS = {"aujourd'hui": "today", "ce matin": "this morning", "ce soir": "this evening"}
_DAYS = {"lundi": "on monday", "samedi": "on saturday", "dimanche": "on sunday"}
_TIMES = {
    "present": {
        **_ALWAYS,
        "maintenant": "now",
        "le matin": "in the morning",
        "le soir": "in the evening",
        "tous les jours": "every day",
        "ici": "here",
    },
    "past": {
        **_ALWAYS,
        **_DAYS,
        "hier": "yesterday",
        "la semaine dernière": "last week",
        "hier soir": "last night",
    },
    "future": {
        **_ALWAYS,
        **_DAYS,
        "demain": "tomorrow",
        "bientôt": "soon",
        "la semaine prochaine": "next week",
    },
}


def time(rng: Random, tense: str) -> Phrase:
    """Draw when something is done that stands in this tense."""
    times = _TIMES["future" if tense == "near" else tense]
    french = rng.choice(list(times))
    return Phrase(french.split(), times[french].split())
