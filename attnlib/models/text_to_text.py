"""An encoder-decoder with its tokenizer: a text in, another text out."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib.models.families.encoder_decoder import EncoderDecoder
from attnlib.models.generation.decoding import check_prompts
from attnlib.models.generation.settings import GenerationSettings
from attnlib.models.text.text_tokenizer import TextTokenizer
from attnlib.models.text_generator import TextGenerator

__all__ = ["TextToTextModel"]

# Target tokens for which there is room at first; a model's own limit may be any number.
_CAPACITY = 256


class TextToTextModel(TextGenerator):
    """A model that translates, summarises or answers; `attnlib.models.load` makes it.

    Parameters
    ----------
    model
        The network.
    tokenizer
        None if the checkpoint has none: sources are then token numbers, with the token that ends them.
    settings
        What the checkpoint says about generation.

    Examples
    --------
    >>> import attnlib.models
    >>> model = attnlib.models.load("opus-mt-fr-en")  # doctest: +SKIP
    >>> model.generate("Je suis étudiant.").text  # doctest: +SKIP
    "I'm a student."
    """

    def __init__(
        self, model: EncoderDecoder, tokenizer: TextTokenizer | None, settings: GenerationSettings
    ) -> None:
        super().__init__(model, tokenizer, settings)
        self.encoder_decoder = model

    def __call__(
        self, inputs: ArrayLike, ids: ArrayLike, lengths: ArrayLike | None = None
    ) -> NDArray[np.float32]:
        """Compute logits (B, S, V) of target tokens (B, S), given sources, as `EncoderDecoder` does."""
        return self.encoder_decoder(inputs, ids, lengths)

    def begin(
        self, prompts: list[list[int]], new_tokens: int
    ) -> tuple[list[list[int]], nn.DecoderPast | None]:
        """Read sources; each target begins with the checkpoint's own token."""
        model = self.encoder_decoder
        starts = check_prompts(model, [[self.settings.start_id]] * len(prompts), new_tokens)
        if not prompts:
            return starts, None
        sources = [model.check_source("generate", prompt) for prompt in prompts]
        lengths = np.array([source.size for source in sources])
        padded = np.zeros((len(sources), lengths.max()), np.intp)
        for row, source in zip(padded, sources, strict=True):
            row[: source.size] = source
        capacity = min(1 + new_tokens, model.context_length, _CAPACITY)
        return starts, model.begin(model.encode(padded, lengths), lengths, capacity=capacity)
