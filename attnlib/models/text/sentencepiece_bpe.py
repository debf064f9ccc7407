"""The byte-pair tokenizer of SentencePiece, as the header of a GGUF file describes it.

SentencePiece merges the two neighbours whose joined text is the token of the highest score, as long as there
are any, and writes what is no token as bytes (T. Kudo and J. Richardson, "SentencePiece", 2018,
arXiv:1808.06226). The library ``tokenizers`` merges by ranked pairs instead: every way to make a token of two
others is such a pair, ranked by the token's score. Of two pairs that overlap and make the same token,
SentencePiece takes the one that comes first in the text, and ``tokenizers`` that of the lower rank: the one
known difference, which 60,000 random texts of ever the same letters did not show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from attnlib.models.extras import require
from attnlib.models.files.config import Fields
from attnlib.models.text.library_errors import library_errors

__all__ = ["sentencepiece_bpe"]

_NORMAL, _UNKNOWN = 1, 2


def sentencepiece_bpe(fields: Fields, tokens: Sequence[str], kinds: Sequence[int]) -> Any:
    """Build the tokenizer, without special tokens.

    Parameters
    ----------
    fields
        The header.
    tokens
        All of them, in the order of their numbers.
    kinds
        What each is, as ``tokenizer.ggml.token_type`` counts it.

    Returns
    -------
    tokenizers.Tokenizer

    Raises
    ------
    ValueError
        If scores or byte tokens are missing, or characters of tokens are no tokens, which SentencePiece could
        join all the same.
    """
    tokenizers = require("tokenizers")
    scores = fields.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise fields.error("tokenizer.ggml.scores", f"must hold {len(tokens)} numbers")
    for number, score in enumerate(scores):
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not math.isfinite(score):
            raise fields.error(
                "tokenizer.ggml.scores", f"must be finite numbers, found {score!r} at {number}"
            )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    missing = [name for name in map("<0x{:02X}>".format, range(256)) if name not in vocabulary]
    if missing:
        raise fields.error("tokenizer.ggml.tokens", f"lacks the byte token {missing[0]}")
    pairs: list[tuple[float, str, str]] = []
    for token, kind, score in zip(tokens, kinds, scores, strict=True):
        if kind != _NORMAL or len(token) < 2:
            continue
        if strangers := [letter for letter in token if letter not in vocabulary]:
            raise fields.error(
                "tokenizer.ggml.tokens", f"has {token!r}, but not {strangers[0]!r}: that is not supported"
            )
        halves = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        pairs += [
            (score, left, right) for left, right in halves if left in vocabulary and right in vocabulary
        ]
    pairs.sort(key=lambda pair: -pair[0])
    unknown = next((token for token, kind in zip(tokens, kinds, strict=True) if kind == _UNKNOWN), None)
    with library_errors(f"{fields.path}: tokenizer.ggml.tokens make no tokenizer"):
        tokenizer = tokenizers.Tokenizer(
            tokenizers.models.BPE(
                vocabulary,
                [(left, right) for _, left, right in pairs],
                unk_token=unknown,
                fuse_unk=True,
                byte_fallback=True,
            )
        )
    blank = fields.boolean("tokenizer.ggml.add_space_prefix", True)
    kinds_of = tokenizers.normalizers
    prefix = [kinds_of.Prepend("▁")] if blank else []
    tokenizer.normalizer = kinds_of.Sequence([*prefix, kinds_of.Replace(" ", "▁")])
    steps = tokenizers.decoders
    strip = [steps.Strip(" ", 1, 0)] if blank else []
    tokenizer.decoder = steps.Sequence([steps.Replace("▁", " "), steps.ByteFallback(), steps.Fuse(), *strip])
    return tokenizer
