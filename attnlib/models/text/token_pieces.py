"""The text of single tokens, for people to read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

__all__ = ["token_pieces"]


def token_pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    r"""Return each token's own text, special tokens by their names.

    The bytes of byte-level vocabularies become characters again, those that make no whole character of
    UTF-8 by themselves ``\xe2`` and the like; the ``▁`` of SentencePiece becomes the space that it stands
    for. The ``##`` of WordPiece, which says that a word goes on, stays.

    Parameters
    ----------
    tokenizer
        Of the library ``tokenizers``.
    ids
        Token numbers.
    """
    # A model's table may have more rows than its tokenizer has tokens.
    names = [tokenizer.id_to_token(number) or str(number) for number in ids]
    kinds = _decoders(tokenizer)
    if "ByteLevel" in kinds:
        return [_from_byte_level(name) for name in names]
    if kinds & {"Metaspace", "Replace"}:
        return [name.replace("▁", " ") for name in names]
    return names


def _decoders(tokenizer: Any) -> set[str]:
    """Name the steps by which the tokenizer makes texts of tokens."""
    if tokenizer.decoder is None:
        return set()
    description = json.loads(tokenizer.decoder.__getstate__())
    return {step["type"] for step in (description, *description.get("decoders", ()))}


def _from_byte_level(name: str) -> str:
    if not all(letter in _BYTES for letter in name):
        return name  # an added token, which is written as it is
    return bytes(_BYTES[letter] for letter in name).decode(errors="backslashreplace")


def _byte_of_letter() -> dict[str, int]:
    """Make the table of GPT-2: a byte that prints in Latin-1 stands for itself, others from U+0100 on."""
    ranges = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printing = {byte for first, last in ranges for byte in range(ord(first), ord(last) + 1)}
    others = [byte for byte in range(256) if byte not in printing]
    table = {chr(byte): byte for byte in sorted(printing)}
    table.update({chr(256 + place): byte for place, byte in enumerate(others)})
    return table


_BYTES = _byte_of_letter()
