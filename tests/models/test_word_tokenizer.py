"""Words of a closed vocabulary: how texts are split, numbered and written."""

from __future__ import annotations

import pytest

from attnlib.models.text.word_tokenizer import SPECIAL, WordTokenizer, join_words, split_words

SOURCE = [*SPECIAL, "l'", "homme", "mange", ".", "?"]
TARGET = [*SPECIAL, "the", "man", "eats", ".", "'s", "?"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("L’homme n'a qu'un œuf.", ["l'", "homme", "n'", "a", "qu'", "un", "œuf", "."]),
        ("qu'est-ce que c'est ?", ["qu'", "est-ce", "que", "c'", "est", "?"]),
        ("Parle-t-il ? Manges-tu", ["parle", "-t-il", "?", "manges", "-tu"]),
        ("aujourd'hui, d'aujourd'hui", ["aujourd'hui", ",", "d'", "aujourd'hui"]),
        ("marie's cat, 's", ["marie", "'s", "cat", ",", "'", "s"]),
        ("it is two o'clock", ["it", "is", "two", "o'clock"]),
        ("Oui… Non ?! Bon...bien", ["oui", ".", "non", "?", "bon", ".", "bien"]),
        ("demi-heure", ["demi", "-", "heure"]),
        ("est-celui", ["est", "-", "celui"]),
        ("", []),
    ],
)
def test_splitting(text: str, words: list[str]) -> None:
    assert split_words(text) == words


def test_joining() -> None:
    assert join_words(["the", "man", "'s", "cat", ",", "too", "?"]) == "the man's cat, too?"
    assert join_words([]) == ""


def test_there_and_back() -> None:
    tokenizer = WordTokenizer(SOURCE, TARGET)
    assert tokenizer.encode("L'homme mange.") == [3, 4, 5, 6, tokenizer.end_id]
    assert tokenizer.encode("homme ?", special=False) == [4, 7]
    assert tokenizer.encode_sentences("Mange ! l'homme ?".replace("!", ".")) == [[5, 6, 2], [3, 4, 7, 2]]
    ids = [tokenizer.start_id, 3, 4, 7, 4, 6, tokenizer.end_id]
    assert tokenizer.decode(ids) == "the man's man."
    stream = tokenizer.stream()
    assert [stream.push(number) for number in ids] == ["", "the", " man", "'s", " man", ".", ""]
    assert stream.rest() == ""
    assert tokenizer.end_ids == (tokenizer.end_id,)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (SOURCE[1:], TARGET, "source must begin with <padding>, <start>, <end>"),
        (SOURCE, TARGET[:2], "target must begin with"),
        ([*SOURCE, "homme"], TARGET, "source has a word twice"),
    ],
)
def test_vocabularies_that_are_none(source: list[str], target: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f"WordTokenizer: {message}"):
        WordTokenizer(source, target)
