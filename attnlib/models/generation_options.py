"""The options of `TextGenerator.generate` as a type, so that its signatures need not repeat them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TypedDict

from attnlib.models.generation import LogitsCallback

__all__ = ["GenerationOptions"]


class GenerationOptions(TypedDict, total=False):
    """Keyword arguments of `TextGenerator.generate`, which explains them."""

    max_new_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float
    min_p: float
    repetition_penalty: float | None
    stop: str | Sequence[str]
    stop_token_ids: Collection[int] | None
    num_beams: int | None
    length_penalty: float | None
    seed: int | None
    logits_callback: LogitsCallback | None
    return_logprobs: bool
