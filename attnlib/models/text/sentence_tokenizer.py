"""From texts to token numbers, by the folder's own ``tokenizer.json``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.extras import require
from attnlib.models.text.library_errors import library_errors
from attnlib.models.text.token_pieces import token_pieces

__all__ = ["Tokenizer"]


class Tokenizer:
    """A Hugging Face tokenizer that cuts texts to a maximum length and never pads.

    Parameters
    ----------
    path
        The file ``tokenizer.json``.
    vocab_size
        Rows of the model's embedding table.
    max_length
        The most tokens that a text may have, special ones included.
    lower_case
        Whether texts are brought to lower case first.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, it is no tokenizer, or it does not fit the model.
    """

    def __init__(self, path: Path, *, vocab_size: int, max_length: int, lower_case: bool = False) -> None:
        tokenizers = require("tokenizers")
        if not path.is_file():
            raise FileNotFoundError(f"{path}: there is no such file")
        with library_errors(f"{path}: not a tokenizer"):
            self._tokenizer: Any = tokenizers.Tokenizer.from_file(str(path))
        if (size := self._tokenizer.get_vocab_size()) > vocab_size:
            raise ValueError(
                f"{path}: model.vocab has {size} tokens, but vocab_size in config.json is {vocab_size}"
            )
        special = self._tokenizer.num_special_tokens_to_add(False)
        if max_length <= special:
            raise ValueError(
                f"{path}: post_processor adds {special} tokens to a text whose maximum length is {max_length}"
            )
        self.max_length = max_length
        self._lower_case = lower_case
        direction = (self._tokenizer.truncation or {}).get("direction", "right")
        self._tokenizer.enable_truncation(max_length, direction=direction)
        self._tokenizer.no_padding()

    def __call__(self, texts: Sequence[str]) -> list[NDArray[np.intp]]:
        """Turn each text into its token numbers.

        Raises
        ------
        ValueError
            If a text holds what is not Unicode, lone surrogates, or the tokenizer lacks what it needs for it.
        """
        return [np.array(encoding.ids, dtype=np.intp) for encoding in self._encode(texts)]

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        """Turn each text into what the library makes of it."""
        if self._lower_case:
            texts = [text.lower() for text in texts]
        try:
            with library_errors("encode: the tokenizer failed", TypeError):
                encodings: list[Any] = self._tokenizer.encode_batch_fast(texts)
        except TypeError:
            for text in texts:
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    raise ValueError(f"encode: a text is not valid Unicode: {error}") from None
            raise
        return encodings

    def prompt_length(self, prompt: str) -> int:
        """Count the tokens that a text begins with because of the prompt before it.

        As in sentence-transformers these are the prompt's own tokens, without the special one at the end.
        """
        added: list[int] = self._encode([prompt])[0].special_tokens_mask
        return len(added) - sum(added[-1:])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token by itself, as `token_pieces` does."""
        return token_pieces(self._tokenizer, ids)
