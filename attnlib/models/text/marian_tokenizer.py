"""The tokenizer of Marian's folders: two SentencePiece models, and a vocabulary that numbers their pieces.

T. Kudo and J. Richardson, "SentencePiece", 2018 (arXiv:1808.06226).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attnlib.models.extras import require
from attnlib.models.files.config import Fields, parse_json
from attnlib.models.text.text_tokenizer import TextTokenizer, folder_tokenizer

__all__ = ["MarianTokenizer", "marian_tokenizer"]

_END, _UNKNOWN, _PADDING = "</s>", "<unk>", "<pad>"


class MarianTokenizer(TextTokenizer):
    """Source texts to tokens by SentencePiece, and target tokens to texts.

    Parameters
    ----------
    source
        The ``SentencePieceProcessor`` that cuts source texts.
    vocabulary, target_vocabulary
        The numbers of pieces, with ``</s>`` and ``<unk>`` among them.
    """

    def __init__(self, source: Any, vocabulary: dict[str, int], target_vocabulary: dict[str, int]) -> None:
        tokenizers = require("tokenizers")
        # It only writes: pieces come to be a text by their marks of a word's beginning.
        writer = tokenizers.Tokenizer(tokenizers.models.WordLevel(target_vocabulary, unk_token=_UNKNOWN))
        writer.decoder = tokenizers.decoders.Metaspace()
        writer.add_special_tokens(
            [token for token in (_END, _UNKNOWN, _PADDING) if token in target_vocabulary]
        )
        super().__init__(writer, end_ids=[target_vocabulary[_END]])
        self._source = source
        self._vocabulary = vocabulary

    def source_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token of a source, a space for the mark of a word's beginning."""
        names = {number: piece for piece, number in self._vocabulary.items()}
        return [names.get(number, str(number)).replace("▁", " ") for number in ids]

    def _cut(self, text: str, special: bool) -> list[int]:
        # A model of several target languages is told which by a piece such as >>fr<<.
        code, closing, rest = text.partition("<<")
        pieces = [code + closing] if code.startswith(">>") and closing else []
        pieces += self._source.encode(rest if pieces else text, out_type=str)
        unknown = self._vocabulary[_UNKNOWN]
        ids = [self._vocabulary.get(piece, unknown) for piece in pieces]
        return [*ids, self._vocabulary[_END]] if special else ids


def marian_tokenizer(
    folder: Path, config: Fields, vocab_size: int, target_vocab_size: int
) -> TextTokenizer | None:
    """Read ``tokenizer.json``, or else ``source.spm`` and ``vocab.json``; None if the folder has neither.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or malformed.
    ImportError
        If there are SentencePiece models and the package sentencepiece is not installed.
    """
    model = folder / "source.spm"
    if (folder / "tokenizer.json").is_file() or not model.is_file():
        return folder_tokenizer(folder, config)
    vocabulary = _read_vocabulary(folder / "vocab.json", vocab_size)
    target = folder / "target_vocab.json"
    target_vocabulary = _read_vocabulary(target, target_vocab_size) if target.is_file() else vocabulary
    if target_vocabulary is vocabulary and target_vocab_size < vocab_size:
        raise FileNotFoundError(f"{target}: there is no such file, and the target's vocabulary is another")
    sentencepiece = require("sentencepiece")
    source = sentencepiece.SentencePieceProcessor()
    try:
        source.LoadFromSerializedProto(model.read_bytes())
    except RuntimeError as error:
        raise ValueError(f"{model}: not a SentencePiece model: {error}") from None
    return MarianTokenizer(source, vocabulary, target_vocabulary)


def _read_vocabulary(path: Path, size: int) -> dict[str, int]:
    found = parse_json(path)
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(found).__name__}")
    for piece, number in found.items():
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < size:
            raise ValueError(f"{path}: {piece!r} must have a number below {size}, found {number!r}")
    for piece in (_END, _UNKNOWN):
        if piece not in found:
            raise ValueError(f"{path}: {piece} is missing")
    return found
