"""The options of `LanguageModel.generate` and `stream` as types, so that signatures need not repeat them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypedDict

from attnlib.models.generation import LogitsCallback

__all__ = ["GenerationOptions", "StreamOptions"]


class StreamOptions(TypedDict, total=False):
    """Keyword arguments that `LanguageModel.generate`, which explains them, shares with `stream`."""

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float
    stop: str | Sequence[str]
    stop_token_ids: Collection[int] | None
    seed: int | None
    logits_callback: LogitsCallback | None


class GenerationOptions(StreamOptions, total=False):
    """Keyword arguments of `LanguageModel.generate`."""

    num_beams: int
    length_penalty: float
    return_logprobs: bool
