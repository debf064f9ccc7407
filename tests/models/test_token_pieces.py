"""The text of single tokens, whatever the tokenizer makes of bytes and spaces."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("tokenizers", reason="tokenizers is not installed")

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from attnlib.models.text.marian_tokenizer import MarianTokenizer
from attnlib.models.text.token_pieces import token_pieces

from .decoders import byte_tokenizer

METASPACE = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


@pytest.mark.parametrize(
    ("decoder", "pieces"),
    [
        (None, ["▁the", "##ing", "<0x0A>", "</s>", "Ġ", "9"]),
        (decoders.WordPiece(), ["▁the", "##ing", "<0x0A>", "</s>", "Ġ", "9"]),
        (decoders.Metaspace(), [" the", "##ing", "<0x0A>", "</s>", "Ġ", "9"]),
        (METASPACE, [" the", "##ing", "<0x0A>", "</s>", "Ġ", "9"]),
        (decoders.ByteLevel(), ["▁the", "##ing", "<0x0A>", "</s>", " ", "9"]),
    ],
)
def test_by_decoder(decoder: Any, pieces: list[str]) -> None:
    words = {word: i for i, word in enumerate(["▁the", "##ing", "<0x0A>", "</s>", "Ġ"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    if decoder is not None:
        tokenizer.decoder = decoder
    assert token_pieces(tokenizer, [0, 1, 2, 3, 4, 9]) == pieces


def test_bytes() -> None:
    """Every byte, alone and in characters; added tokens are not coded."""
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken("[a b]", normalized=False), "日本"])
    ids = tokenizer.encode("a\n é").ids
    assert token_pieces(tokenizer, ids) == ["a", "\n", " ", "\\xc3", "\\xa9"]
    assert token_pieces(tokenizer, [256, 257, 258]) == ["<end>", "[a b]", "日本"]
    every = token_pieces(tokenizer, range(256))
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    assert len(set(every)) == len(letters) == 256
    assert {piece for piece in every if len(piece) == 1} == {chr(byte) for byte in range(128)}
    assert sum(piece.startswith("\\x") for piece in every) == 128


def test_two_vocabularies() -> None:
    source = {"</s>": 0, "<unk>": 1, "▁le": 2, "▁chat": 3, "s": 4}
    target = {"</s>": 0, "<unk>": 1, "▁the": 2, "▁cat": 3}
    tokenizer = MarianTokenizer(None, source, target)
    assert tokenizer.source_pieces([2, 3, 4, 0, 9]) == [" le", " chat", "s", "</s>", "9"]
    assert tokenizer.pieces([2, 3, 0, 4]) == [" the", " cat", "</s>", "4"]
