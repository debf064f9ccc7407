"""The options of `TextGenerator.generate` and `stream` as types, so that signatures need not repeat them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypedDict

from attnlib.models.generation.decoding import LogitsCallback

__all__ = ["GenerationOptions", "StreamOptions"]


class StreamOptions(TypedDict, total=False):
    """Keyword arguments that `TextGenerator.generate`, which explains them, shares with `stream`."""

    max_new_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float | None
    stop: str | Sequence[str] | None
    stop_token_ids: Collection[int] | None
    seed: int | None
    logits_callback: LogitsCallback | None


class GenerationOptions(StreamOptions, total=False):
    """Keyword arguments of `TextGenerator.generate`."""

    num_beams: int | None
    length_penalty: float | None
    return_logprobs: bool
