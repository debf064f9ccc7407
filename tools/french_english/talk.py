"""Patterns of conversation: greetings, the weather, questions."""

from __future__ import annotations

from random import Random

from french_english import lexicon, verbs
from french_english.clauses import Predicate, Subject, clause, draw_subject, pronoun
from french_english.phrases import Phrase, noun_phrase, time
from french_english.pieces import NOTHING, draw_object, draw_predicate, joined_phrases
from french_english.states import naming, profession, sensation

__all__ = ["question_word", "small_talk"]

_WEATHER = {
    "il pleut": "it is raining",
    "il neige": "it is snowing",
    "il fait froid": "it is cold",
    "il fait chaud": "it is hot",
    "il fait beau": "the weather is nice",
    "il fait mauvais": "the weather is bad",
}


_FIXED = {
    "bonjour": "hello",
    "bonsoir": "good evening",
    "bonne nuit": "good night",
    "au revoir": "goodbye",
    "merci": "thank you",
    "merci beaucoup": "thank you very much",
    "à demain": "see you tomorrow",
    "oui": "yes",
    "non": "no",
    "salut": "hi",
}


_QUESTIONS = {
    "comment allez -vous": "how are you",
    "comment vas -tu": "how are you",
    "comment ça va": "how are you",
    "quelle heure est -il": "what time is it",
    "qu' est-ce que c' est": "what is it",
    "qui es -tu": "who are you",
    "qui êtes -vous": "who are you",
    "quel âge as -tu": "how old are you",
    "quel âge avez -vous": "how old are you",
    "quel âge a -t-il": "how old is he",
    "quel âge a -t-elle": "how old is she",
}


_PATTERNS_AFTER_GREETING = (naming, profession, sensation)


def small_talk(rng: Random) -> tuple[Phrase, str]:
    """Draw greetings, how one is, and the weather."""
    kind = rng.random()
    if kind < 0.05:
        french = rng.choice(list(_QUESTIONS))
        return Phrase(french.split(), _QUESTIONS[french].split()), "?"
    if kind < 0.15:
        subject = draw_subject(rng, pronouns=0.8)
        negation = rng.choice((None, "pas"))
        goes = clause(subject, Predicate(verbs.GO, negation=negation), Phrase(["bien"], []))
        is_ = clause(subject, Predicate(verbs.BE, negation=negation), Phrase([], ["well"]))
        return Phrase(goes.french, is_.english, combinations=subject.combinations), ""
    if kind < 0.25:
        number = rng.choice([word for word in lexicon.NUMBERS if word not in ("vingt", "trente")])
        hours = Phrase(["il", "est", number, "heures"], ["it", "is", lexicon.NUMBERS[number], "o'clock"])
        return hours, ""
    if kind < 0.5:
        french = rng.choice(list(_WEATHER))
        when = time(rng, "present") if rng.random() < 0.6 else NOTHING
        return joined_phrases(Phrase(french.split(), _WEATHER[french].split()), when), ""
    french = rng.choice(list(_FIXED))
    greeting = Phrase(french.split(), _FIXED[french].split())
    if rng.random() < 0.4:
        name = rng.choice(list(lexicon.NAMES))
        greeting = joined_phrases(greeting, Phrase([name], [name]))
    elif rng.random() < 0.6:
        following = _PATTERNS_AFTER_GREETING[rng.randrange(3)]
        phrase, mark = following(rng)
        return joined_phrases(greeting, Phrase([","], [","]), phrase), mark
    return greeting, ""


def question_word(rng: Random) -> tuple[Phrase, str]:
    """Draw a question with a question word."""
    draw = rng.random()
    if draw < 0.2:
        what = noun_phrase(
            rng, verbs.HAVE.objects | {"person", "place"}, determiners=("the", "my"), adjectives=0.2
        )
        be = (["où", "sont"], ["where", "are"]) if what.plural else (["où", "est"], ["where", "is"])
        return joined_phrases(Phrase(*be), what), "?"
    if draw < 0.4:
        verb = rng.choice(verbs.TRANSITIVE_VERBS)
        predicate = draw_predicate(rng, verb)
        who = Subject(["qui"], ["who"], 2, 2, "m", False, head="qui", pronoun=True)
        return clause(who, predicate, draw_object(rng, who, predicate)), "?"
    if draw < 0.6:
        verb = rng.choice([verb for verb in verbs.TRANSITIVE_VERBS if verb.objects - {"person"}])
        subject = draw_subject(rng, pronouns=0.7)
        predicate = draw_predicate(rng, verb)
        predicate.negation = predicate.adverb = None
        asked = clause(subject, predicate, NOTHING, question=True)
        return joined_phrases(Phrase(["qu'", "est-ce", "que"], ["what"]), asked), "?"
    if draw < 0.75:
        countable = [kind for kind in sorted(verbs.HAVE.objects) if kind not in ("drink",)]
        noun = rng.choice([noun for noun in lexicon.NOUNS if noun.plural and noun.kind in countable])
        subject = pronoun(rng)
        while subject.french == ["je"]:
            subject = pronoun(rng)
        has = clause(subject, Predicate(verbs.HAVE), NOTHING, question=True, inverted=True)
        return joined_phrases(
            Phrase(["combien", "de", str(noun.plural)], ["how", "many", noun.english_plural]), has
        ), "?"
    word, english = rng.choice((("où", "where"), ("quand", "when"), ("pourquoi", "why"), ("comment", "how")))
    subject = draw_subject(rng, pronouns=0.7)
    predicate = draw_predicate(rng, rng.choice(verbs.INTRANSITIVE_VERBS))
    predicate.negation = predicate.adverb = None
    inverted = subject.pronoun and subject.french != ["je"] and rng.random() < 0.5
    asked = clause(subject, predicate, NOTHING, question=True, inverted=inverted)
    return joined_phrases(Phrase([word] if inverted else [word, "est-ce", "que"], [english]), asked), "?"
