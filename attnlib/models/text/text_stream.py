"""From tokens to text one token at a time, giving what `TextTokenizer.decode` gives for all of them.

How a tokenizer writes its tokens is told by its decoder, a chain of steps (the classes of
``tokenizers.decoders``). Most look at one token. Those that look further, because a character's bytes may be
spread over several tokens or because the first or last token is special, keep here what they must know: a
step gets the next token and returns those that are ready, and `end` says what would still come if no token
followed.
"""

from __future__ import annotations

import codecs
import copy
import json
import re
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

__all__ = ["TextStream"]


class TextStream:
    """The text of a growing sequence of tokens.

    All that `push` returned, with `rest` after it, is what `TextTokenizer.decode` makes of all tokens. Each
    `push` takes a time that does not depend on how many were before.

    Parameters
    ----------
    tokenizer
        Of the library ``tokenizers``. Of its decoders CTC, regular expressions, what strips the end and what
        replaces in tokens that are already joined are not known here: then all is `rest`, decoded when asked.
    special
        Tokens that are left out.
    """

    def __init__(self, tokenizer: Any, special: Collection[str]) -> None:
        self._tokenizer = tokenizer
        self._special = special
        decoder = tokenizer.decoder
        state = {"type": "Blanks"} if decoder is None else json.loads(decoder.__getstate__())
        self._steps = _steps(state)
        # Kept only if they must be decoded together.
        self._tokens: list[int] = []

    def push(self, token: int) -> str:
        """Add a token and return the text that is now certain, whatever follows."""
        if self._steps is None:
            self._tokens.append(token)
            return ""
        name = self._tokenizer.id_to_token(token)
        return "" if name is None or name in self._special else _through(self._steps, [name])

    def rest(self) -> str:
        """Return the text that would follow if the sequence ended here, and change nothing."""
        if self._steps is None:
            text: str = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
            return text
        steps = [copy.copy(step) for step in self._steps]
        return "".join(_through(steps[place + 1 :], step.end()) for place, step in enumerate(steps))


class _Step:
    """A step that looks at one token, and the base of those that keep something."""

    def __init__(self, change: Callable[[str], str] = str) -> None:
        self._change = change

    def push(self, token: str) -> list[str]:
        return [self._change(token)]

    def end(self) -> list[str]:
        return []


class _First(_Step):
    """The first token is written otherwise than those after it."""

    def __init__(self, first: Callable[[str], str], later: Callable[[str], str]) -> None:
        self._change, self._later = first, later

    def push(self, token: str) -> list[str]:
        change, self._change = self._change, self._later
        return [change(token)]


class _Last(_Step):
    """The last token is written otherwise than those before it: each waits for the next."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._waiting: str | None = None

    def push(self, token: str) -> list[str]:
        before, self._waiting = self._waiting, token
        return [] if before is None else [before.replace(self._suffix, " ")]

    def end(self) -> list[str]:
        return [] if self._waiting is None else [self._waiting.replace(self._suffix, "")]


class _ByteLevel(_Step):
    """Each letter of a token stands for a byte; bytes that are no UTF-8 become U+FFFD."""

    def __init__(self) -> None:
        self._bytes = b""

    def push(self, token: str) -> list[str]:
        try:
            self._bytes += bytes(_BYTES[letter] for letter in token)
        except KeyError:  # an added token, written as it is read
            self._bytes += token.encode()
        text, used = codecs.utf_8_decode(self._bytes, "replace", False)
        self._bytes = self._bytes[used:]
        return [text]

    def end(self) -> list[str]:
        return [self._bytes.decode(errors="replace")]


class _ByteFallback(_Step):
    """A run of tokens such as ``<0xE2>`` is UTF-8, or else as many U+FFFD: it waits for its end."""

    def __init__(self) -> None:
        self._run = b""

    def push(self, token: str) -> list[str]:
        if _BYTE_TOKEN.fullmatch(token):
            self._run += bytes([int(token[3:5], 16)])
            return []
        before, self._run = self.end(), b""
        return [*before, token]

    def end(self) -> list[str]:
        try:
            return [self._run.decode()] if self._run else []
        except UnicodeDecodeError:
            return ["\ufffd"] * len(self._run)


class _StripStart(_Step):
    """Of a text in pieces, the first `count` characters go if they are `content`."""

    def __init__(self, content: str, count: int) -> None:
        self._content, self._count = content, count

    def push(self, token: str) -> list[str]:
        if token and self._count:
            text = _strip(self._content, self._count, token)
            # Once another character was seen, nothing more goes.
            self._count = 0 if text else self._count - len(token)
            return [text]
        return [token]


def _steps(state: dict[str, Any]) -> list[_Step] | None:
    """Make the steps of a decoder, as ``tokenizers`` saves it, or None if one of them is not known."""
    parts = state["decoders"] if state["type"] == "Sequence" else [state]
    steps: list[_Step] = []
    # From there on there are no tokens any more, but one text, of which we see pieces.
    fused = False
    for part in parts:
        kind = part["type"]
        if kind == "Fuse":
            fused = True
        elif kind == "Strip" and not part["stop"]:
            start = part["content"], part["start"]
            steps.append(_StripStart(*start) if fused else _Step(partial(_strip, *start)))
        elif kind in _STEPS and not fused:
            steps.append(_STEPS[kind](part))
            fused = kind == "ByteLevel"
        elif kind == "Replace" and not fused and "String" in part["pattern"]:
            steps.append(_Step(partial(_replace, part["pattern"]["String"], part["content"])))
        else:
            return None
    return steps


def _through(steps: list[_Step], tokens: list[str]) -> str:
    for step in steps:
        tokens = [ready for token in tokens for ready in step.push(token)]
    return "".join(tokens)


def _replace(old: str, new: str, token: str) -> str:
    return token.replace(old, new)


def _strip(content: str, count: int, token: str) -> str:
    begin = 0
    while begin < min(count, len(token)) and token[begin] == content:
        begin += 1
    return token[begin:]


def _metaspace(part: dict[str, Any]) -> _Step:
    mark = part["replacement"]
    later = partial(_replace, mark, " ")
    return _First(later if part["prepend_scheme"] == "never" else partial(_replace, mark, ""), later)


# What WordPiece's decoder tidies in a word, in this order.
_TIDY = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


def _word_piece(part: dict[str, Any]) -> _Step:
    prefix = part["prefix"]

    def tidied(token: str) -> str:
        for old, new in _TIDY if part["cleanup"] else ():
            token = token.replace(old, new)
        return token

    def later(token: str) -> str:
        return tidied(token[len(prefix) :] if token.startswith(prefix) else f" {token}")

    return _First(tidied, later)


_STEPS: dict[str, Callable[[dict[str, Any]], _Step]] = {
    "BPEDecoder": lambda part: _Last(part["suffix"]),
    "Blanks": lambda part: _First(str, " {}".format),
    "ByteFallback": lambda part: _ByteFallback(),
    "ByteLevel": lambda part: _ByteLevel(),
    "Metaspace": _metaspace,
    "WordPiece": _word_piece,
}

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def _byte_letters() -> dict[str, int]:
    """Map the letters of byte-level BPE to bytes: printable Latin-1 is itself, the rest is from U+0100 on.

    A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_letters()
