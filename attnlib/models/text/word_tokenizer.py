"""From texts to token numbers and back, one token a word of a closed vocabulary."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from difflib import get_close_matches

from attnlib.models.text.text_stream import TextStream
from attnlib.models.text.text_tokenizer import TextTokenizer

__all__ = ["END", "SPECIAL", "START", "WordTokenizer", "join_words", "split_words"]

START, END = "<start>", "<end>"
# The first tokens of each vocabulary. No text splits into words with such brackets.
SPECIAL = ("<padding>", START, END)

_FINAL = (".", "!", "?")

# In this order: words that have an apostrophe or a hyphen inside; elided words, which keep their apostrophe
# (l', qu'); pronouns behind their verb, which keep their hyphen (-tu, -t-il); the English possessive; words;
# marks; anything else, to be complained about.
_WORD = re.compile(
    r"aujourd'hui|o'clock|est-ce(?!\w)"
    r"|(?:(?<!\w)(?:[cdjlmnst]|qu)')"
    r"|(?<=\w)(?:-t)?-(?:je|tu|ils?|elles?|on|nous|vous|moi|toi|le|la|les)(?!\w)"
    r"|(?<=\w)'s(?!\w)"
    r"|\w+|[.,!?]|\S"
)


def split_words(text: str) -> list[str]:
    """Split a text into words and punctuation marks, all in lower case.

    Letters with accents are composed ones, apostrophes straight; of marks in a row only the first is left.

    >>> split_words("Aujourd’hui, n'as-tu pas d'eau ?")
    ["aujourd'hui", ',', "n'", 'as', '-tu', 'pas', "d'", 'eau', '?']
    """
    text = unicodedata.normalize("NFC", text).lower().replace("’", "'").replace("‘", "'").replace("…", ".")
    # Of several marks at the end of a sentence the first counts.
    return _WORD.findall(re.sub(r"([.!?])[.!?\s]*", r"\1 ", text))


def join_words(words: Sequence[str]) -> str:
    """Write words as an English text: no space before a mark or a possessive.

    >>> join_words(["marie", "'s", "cat", ",", "too", "."])
    "marie's cat, too."
    """
    text = ""
    for word in words:
        text += word if not text or word in (".", ",", "!", "?", "'s") else f" {word}"
    return text


class WordTokenizer(TextTokenizer):
    """The words of a source and of a target language, by number.

    Parameters
    ----------
    source, target
        The vocabularies. Each begins with `SPECIAL`.

    Raises
    ------
    ValueError
        If one begins with something else, or has a word twice.
    """

    def __init__(self, source: Sequence[str], target: Sequence[str]) -> None:
        for name, words in (("source", source), ("target", target)):
            if tuple(words[: len(SPECIAL)]) != SPECIAL:
                raise ValueError(f"WordTokenizer: {name} must begin with {', '.join(SPECIAL)}")
            if len(set(words)) < len(words):
                raise ValueError(f"WordTokenizer: {name} has a word twice")
        self.start_id, self.end_id = SPECIAL.index(START), SPECIAL.index(END)
        super().__init__(None, end_ids=(self.end_id,))
        self.source = tuple(source)
        self.target = tuple(target)
        self._numbers = {word: number for number, word in enumerate(source)}

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Turn a text of the source language into token numbers.

        Parameters
        ----------
        text
            Unicode.
        special
            Whether to add the token for the end, as the model wants it. Default True.

        Raises
        ------
        ValueError
            If there are no words in it, or some that are not in the vocabulary; they are named, with what
            they may have been meant to be.
        """
        words = split_words(text)
        if not words:
            raise ValueError("translate: a text is empty")
        unknown = [word for word in dict.fromkeys(words) if word not in self._numbers]
        if unknown:
            raise ValueError(
                f"translate: {'; '.join(map(self._complaint, unknown))} "
                f"(it knows {len(self.source_words)} words; attnlib translate --list-words shows them)"
            )
        return [self._numbers[word] for word in words] + [self.end_id] * special

    @property
    def source_words(self) -> tuple[str, ...]:
        """The source vocabulary without the special tokens: words, elided words, marks."""
        return self.source[len(SPECIAL) :]

    def _complaint(self, word: str) -> str:
        near = get_close_matches(word, self.source_words, n=3, cutoff=0.7)
        return f"the model does not know {word!r}" + (f", but {', '.join(near)}" if near else "")

    def encode_sentences(self, text: str) -> list[list[int]]:
        """Turn a text into the token numbers of each of its sentences, as `encode` does."""
        ids = self.encode(text, special=False)
        sentences: list[list[int]] = [[]]
        for place, number in enumerate(ids):
            if place > 0 and self.source[ids[place - 1]] in _FINAL:
                sentences.append([])
            sentences[-1].append(number)
        return [[*sentence, self.end_id] for sentence in sentences]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the words of the target language, special ones by their names."""
        return [self.target[number] for number in ids]

    def source_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the words of the source language likewise."""
        return [self.source[number] for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """Write token numbers of the target language as a text, without the special ones."""
        return join_words([self.target[number] for number in ids if number >= len(SPECIAL)])

    def stream(self) -> TextStream:
        """Begin a text to which tokens are added one at a time."""
        return _WordStream(self)


class _WordStream(TextStream):
    """A text that grows by words: each is certain as soon as it is there."""

    def __init__(self, tokenizer: WordTokenizer) -> None:
        self._words = tokenizer
        self._ids: list[int] = []
        self._length = 0

    def push(self, token: int) -> str:
        self._ids.append(token)
        text = self._words.decode(self._ids)
        piece, self._length = text[self._length :], len(text)
        return piece

    def rest(self) -> str:
        return ""
