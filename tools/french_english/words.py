"""Words and how they are inflected: the morphology of both languages, as far as the lexicon needs it."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "Adjective",
    "Noun",
    "Verb",
    "begins_with_vowel",
    "english_plural",
    "french_plural",
    "regular_verb",
    "third_person",
]

_FUTURE = ("ai", "as", "a", "ons", "ez", "ont")


def begins_with_vowel(word: str) -> bool:
    """Return whether a French word elides the one before it. Every h of the lexicon is mute."""
    return re.match("[aeiouyâàéèêîôœh]", word) is not None


def french_plural(word: str) -> str:
    """Form the plural of a French noun or of a masculine adjective."""
    if word[-1] in "sxz":
        return word
    if word.endswith("al"):
        return word[:-1] + "ux"
    return word + ("x" if word.endswith(("au", "eu")) and word != "bleu" else "s")


def english_plural(word: str) -> str:
    """Form the regular plural of an English noun."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word[:-1] + "ies" if re.search("[^aeiou]y$", word) else word + "s"


def third_person(base: str) -> str:
    """Form the third person singular of an English verb."""
    if base == "have":
        return "has"
    return base + "es" if base.endswith("o") else english_plural(base)


@dataclass(frozen=True)
class Noun:
    """A noun of both languages.

    Parameters
    ----------
    singular, plural
        The French forms; a noun of stuff (bread, water) has no plural.
    gender
        ``"m"`` or ``"f"``.
    english, english_plural
        The translation.
    kind
        What it is, for verbs and adjectives that go only with some.
    """

    singular: str
    plural: str | None
    gender: str
    english: str
    english_plural: str
    kind: str


@dataclass(frozen=True)
class Adjective:
    """An adjective of both languages.

    Parameters
    ----------
    forms
        Masculine, feminine, their plurals, and the masculine before a vowel (bel, vieil, nouvel).
    english
        The translation, and of persons where that is another.
    comparative
        Of the English word; None if it takes "more".
    before
        Whether it stands before its noun.
    kinds
        Of nouns that it goes with.
    """

    forms: tuple[str, str, str, str, str]
    english: tuple[str, str]
    comparative: tuple[str, str] | None
    before: bool
    kinds: frozenset[str]

    def french(self, gender: str, plural: bool, following: str = "") -> str:
        """Return the form that agrees with a noun, before `following` if it stands before it."""
        if gender == "m" and not plural and following and begins_with_vowel(following):
            return self.forms[4]
        return self.forms[(gender == "f") + 2 * plural]

    def translation(self, kind: str) -> str:
        """Return the English word for a noun of this kind."""
        return self.english[kind == "person"]


@dataclass(frozen=True)
class Verb:
    """A verb of both languages.

    Parameters
    ----------
    infinitive, present, participle, future_stem
        The French forms; the present in six persons, the participle masculine singular.
    with_be
        Whether the past is formed with être.
    base, past
        The English forms.
    particle
        What follows the English verb before an object: "for" of "look for".
    objects
        Kinds of its direct objects; empty if it has none.
    """

    infinitive: str
    present: tuple[str, ...]
    participle: str
    future_stem: str
    base: str
    past: str
    particle: tuple[str, ...] = ()
    objects: frozenset[str] = frozenset()
    with_be: bool = False

    def future(self, person: int) -> str:
        """Return the simple future in one of six persons."""
        return self.future_stem + _FUTURE[person]

    def imperative(self, person: int) -> str:
        """Return the imperative for tu (1), nous (3) or vous (4)."""
        form = self.present[person]
        return form[:-1] if person == 1 and form.endswith("es") else form

    def agreed_participle(self, gender: str, plural: bool) -> str:
        """Return the participle in the form that goes with être."""
        return self.participle + ("e" if gender == "f" else "") + ("s" if plural else "")


def regular_verb(infinitive: str) -> tuple[tuple[str, ...], str, str]:
    """Conjugate a French verb of a regular group: its present, participle and future stem."""
    stem = infinitive[:-2]
    if infinitive.endswith("ir"):
        present = tuple(stem + ending for ending in ("is", "is", "it", "issons", "issez", "issent"))
        return present, stem + "i", infinitive
    if infinitive.endswith("re"):
        present = tuple(stem + ending for ending in ("s", "s", "", "ons", "ez", "ent"))
        return present, stem + "u", infinitive[:-1]
    # Of the first group: an accent or a doubled letter where the ending is silent, g and c kept soft.
    strong, future = stem, infinitive
    if stem == "appel":
        strong, future = "appell", "appeller"
    elif match := re.match("(.*)e([tvn])$", stem):
        strong = f"{match[1]}è{match[2]}"
        future = strong + "er"
    elif match := re.match("(.*)é([rt])$", stem):
        strong = f"{match[1]}è{match[2]}"
    soft = stem + "e" if stem.endswith("g") else re.sub("c$", "ç", stem)
    return (
        (strong + "e", strong + "es", strong + "e", soft + "ons", stem + "ez", strong + "ent"),
        stem + "é",
        future,
    )
