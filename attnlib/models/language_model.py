"""A decoder with its tokenizer: prompts in, texts out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.models.families.decoder import Decoder
from attnlib.models.generation.decoding import check_prompts
from attnlib.models.generation.settings import GenerationSettings
from attnlib.models.text.text_tokenizer import TextTokenizer
from attnlib.models.text_generator import TextGenerator

__all__ = ["LanguageModel"]


class LanguageModel(TextGenerator):
    """A decoder-only language model; `attnlib.models.load` makes it.

    Parameters
    ----------
    decoder
        The network.
    tokenizer
        None if the checkpoint has none: prompts are then token numbers.

    Examples
    --------
    >>> import attnlib.models
    >>> model = attnlib.models.load("SmolLM2-135M-Instruct.Q4_1.gguf")  # doctest: +SKIP
    >>> model.generate("The capital of France is", max_new_tokens=2).text  # doctest: +SKIP
    ' Paris.'
    """

    def __init__(self, decoder: Decoder, tokenizer: TextTokenizer | None) -> None:
        ends = () if tokenizer is None else tokenizer.end_ids
        super().__init__(decoder, tokenizer, GenerationSettings(end_ids=ends))
        self.decoder = decoder

    def __call__(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Compute logits (B, S, V) of token numbers (B, S), as `Decoder` does."""
        return self.decoder(ids)

    def begin(self, prompts: list[list[int]], new_tokens: int) -> tuple[list[list[int]], None]:
        """Check prompts, which are what the texts begin with; nothing stands before them."""
        return check_prompts(self.decoder, prompts, new_tokens), None
