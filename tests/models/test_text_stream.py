"""Text token by token is the text of all tokens, for every decoder of the tokenizers library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, strategies

pytest.importorskip("tokenizers", reason="tokenizers is not installed")

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from attnlib.models import load
from attnlib.models.text.stop_text import StopText
from attnlib.models.text.text_stream import TextStream
from attnlib.models.text.text_tokenizer import TextTokenizer

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
# Parts of characters of two to four bytes, whole ones, and bytes that are never UTF-8.
PARTS = ["Ã", "©", "â", "Ĥ", "¬", "âĤ", "¬a", "ð", "ðŁ", "Ĳ", "ðŁĲį", "ÿ", "ï¿½", "Ċ", "Ġa", "aĠ"]
BYTES = [f"<0x{byte:02X}>" for byte in (0x0A, 0x20, 0x41, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xFF, 0xF0)]
WORDS = [
    "▁",
    "▁▁",
    "▁the",
    "at",
    "s▁",
    "é",
    "🐍",
    " ",
    "  x ",
    "##ing",
    "##",
    "##.##",
    ".",
    "'",
    "n't",
    "do not",
]
WORDS += [
    " ' ",
    "do",
    "not",
    "</w>",
    "a</w>",
    "</w>b</w>",
    "",
    "<0xZZ>",
    "<0x411",
    "x",
    "\ufffd",
    "|",
    "<pad>",
]

SENTENCE_PIECE = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
DECODERS: dict[str, Any] = {
    "byte level": decoders.ByteLevel(),
    "byte level, stripped": decoders.Sequence([decoders.ByteLevel(), decoders.Strip("a", 2, 0)]),
    "sentence piece": decoders.Sequence([*SENTENCE_PIECE, decoders.Strip(" ", 1, 0)]),
    "sentence piece, three blanks": decoders.Sequence([*SENTENCE_PIECE, decoders.Strip(" ", 3, 0)]),
    "sentence piece, all blanks": decoders.Sequence(SENTENCE_PIECE),
    "metaspace": decoders.Metaspace(),
    "metaspace, never": decoders.Metaspace(prepend_scheme="never"),
    "metaspace, bytes": decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]),
    "word piece": decoders.WordPiece(),
    "word piece, as it is": decoders.WordPiece(cleanup=False),
    "byte pairs": decoders.BPEDecoder(),
    "byte pairs, bytes": decoders.Sequence([decoders.BPEDecoder(), decoders.ByteFallback()]),
    "bytes, byte pairs": decoders.Sequence([decoders.ByteFallback(), decoders.BPEDecoder()]),
    "strip": decoders.Strip(" ", 2, 0),
    "none": None,
}
# What is decoded together, at the end.
SLOW: dict[str, Any] = {
    "ctc": decoders.CTC(),
    "pattern": decoders.Replace(Regex("a|x"), "y"),
    "replaced when joined": decoders.Sequence([*SENTENCE_PIECE, decoders.Replace("  ", " ")]),
}


def tokenizer(decoder: Any) -> TextTokenizer:
    words = list(dict.fromkeys([*ALPHABET, *PARTS, *BYTES, *WORDS]))
    made = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, "x"))
    made.add_tokens([AddedToken("plain added", special=False), AddedToken("é added", special=False)])
    made.add_special_tokens(["<end>", "<begin>"])
    if decoder is not None:
        made.decoder = decoder
    return TextTokenizer(made)


TOKENIZERS = {name: tokenizer(decoder) for name, decoder in (DECODERS | SLOW).items()}
SIZE = len(TOKENIZERS["none"]._tokenizer.get_vocab())
# Most of them from the second half, where the tricky ones are; some that no tokenizer knows.
TOKENS = strategies.lists(
    strategies.integers(0, SIZE + 2) | strategies.integers(len(ALPHABET), SIZE - 1), max_size=24
)


def check(tokenizer: TextTokenizer, tokens: list[int]) -> None:
    """The text so far with its rest is, after each token, the text of the tokens so far."""
    stream = tokenizer.stream()
    text = ""
    assert stream.rest() == ""
    for count, token in enumerate(tokens, 1):
        text += stream.push(token)
        assert text + stream.rest() == tokenizer.decode(tokens[:count])


@pytest.mark.parametrize("name", TOKENIZERS)
@given(tokens=TOKENS)
def test_every_beginning_is_decoded(name: str, tokens: list[int]) -> None:
    check(TOKENIZERS[name], tokens)


@given(tokens=strategies.lists(strategies.integers(0, 255), max_size=40))
@example(tokens=list(range(256)))
def test_any_bytes(tokens: list[int]) -> None:
    check(TOKENIZERS["byte level"], tokens)


@pytest.mark.parametrize("name", DECODERS)
def test_nothing_is_decoded_twice(name: str) -> None:
    class Counted:
        """A tokenizer that counts the tokens that are looked up, and decodes nothing."""

        def __init__(self, inner: Any) -> None:
            self.decoder = inner.decoder
            self._look_up = inner.id_to_token
            self.count = 0

        def id_to_token(self, token: int) -> Any:
            self.count += 1
            return self._look_up(token)

    counted = Counted(TOKENIZERS[name]._tokenizer)
    stream = TextStream(counted, frozenset())
    for number in range(1000):
        stream.push(number % SIZE)
        stream.rest()
    assert counted.count == 1000


def test_a_character_waits_for_its_bytes() -> None:
    tokenizer = TOKENIZERS["byte level"]
    stream = tokenizer.stream()
    ids = [tokenizer._tokenizer.token_to_id(part) for part in ("ðŁ", "Ĳ", "į", "a")]
    assert [stream.push(token) for token in ids] == ["", "", "🐍", "a"]


def stopped(tokenizer: TextTokenizer, tokens: list[int], stops: list[str]) -> tuple[list[str], str, bool]:
    text = StopText(tokenizer.stream(), stops)
    pieces = []
    for token in tokens:
        text.push(token)
        pieces.append(text.take())
        if text.stopped:
            break
    pieces.append(text.end())
    return pieces, text.text, text.stopped


@pytest.mark.parametrize("name", ["byte level", "sentence piece", "word piece"])
@given(
    tokens=TOKENS, stops=strategies.lists(strategies.sampled_from(["a", "a ", "é", "\n", " a", ".", "ing x"]))
)
def test_stop_strings(name: str, tokens: list[int], stops: list[str]) -> None:
    """A text ends at the first token after which a stop is in it, and before the first of them."""
    tokenizer = TOKENIZERS[name]
    pieces, text, found = stopped(tokenizer, tokens, stops)
    assert "".join(pieces) == text
    for count in range(len(tokens) + 1):
        wanted = tokenizer.decode(tokens[:count])
        places = [wanted.find(stop) for stop in stops if stop in wanted]
        if places:
            assert (text, found) == (wanted[: min(places)], True)
            assert len(pieces) == count + 1
            return
    assert (text, found) == (tokenizer.decode(tokens), False)


def test_what_may_begin_a_stop_is_held() -> None:
    tokenizer = TOKENIZERS["byte level"]
    ids = [ALPHABET.index(letter) for letter in "xyzxyw"]
    assert stopped(tokenizer, ids, ["xyw"])[0] == ["", "", "xyz", "", "", "", ""]
    assert stopped(tokenizer, ids[:5], ["xyw"])[0] == ["", "", "xyz", "", "", "xy"]


@pytest.mark.real_model
def test_a_real_vocabulary(smollm: Path) -> None:
    model: Any = load(smollm, dtype="int8")
    size = model.decoder.vocab_size

    @given(tokens=strategies.lists(strategies.integers(0, size - 1), max_size=40))
    def test(tokens: list[int]) -> None:
        check(model.tokenizer, tokens)

    test()
    check(model.tokenizer, model.tokenizer.encode("Ça va ? 🐍🐍 日本語 ﷽ \x00\x1b"))
