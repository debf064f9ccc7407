"""A decoder with its tokenizer: prompts in, texts out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.models.beam_search import beam_search
from attnlib.models.decoder import Decoder
from attnlib.models.generation import LogitsCallback, Step, check_prompts, decode
from attnlib.models.generation_options import GenerationOptions
from attnlib.models.sampling import Sampling
from attnlib.models.stop_text import StopText
from attnlib.models.text_tokenizer import TextTokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Generation", "LanguageModel"]

Prompt = str | Sequence[int]


@dataclass
class Generation:
    """What was generated for one prompt.

    Attributes
    ----------
    tokens
        The new tokens, with the one that ended them.
    text
        Their text without special tokens, cut before a stop string; "" if the model has no tokenizer.
    finish_reason
        ``"stop"`` for a stop token or string, ``"length"`` otherwise.
    logprobs
        Of each token, if they were asked for.
    score
        Of beam search: the sum of log-probabilities over ``length ** length_penalty``.
    """

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish_reason: str = "length"
    logprobs: list[float] | None = None
    score: float | None = None


class LanguageModel:
    """A decoder-only language model; `attnlib.models.load` makes it.

    Parameters
    ----------
    decoder
        The network.
    tokenizer
        None if the checkpoint has none: prompts are then token numbers.
    """

    def __init__(self, decoder: Decoder, tokenizer: TextTokenizer | None) -> None:
        self.decoder = decoder
        self.tokenizer = tokenizer

    def __call__(self, ids: ArrayLike) -> NDArray[np.float32]:
        """Compute logits (B, S, V) of token numbers (B, S), as `Decoder` does."""
        return self.decoder(ids)

    def encode(self, prompt: Prompt) -> list[int]:
        """Turn a prompt into token numbers, if it is not already."""
        if not isinstance(prompt, str):
            return list(prompt)
        if self.tokenizer is None:
            raise ValueError("generate: the model has no tokenizer.json: give prompts as token ids")
        return self.tokenizer.encode(prompt)

    # A text is also a sequence of texts, but the first signature that fits is taken.
    @overload
    def generate(  # type: ignore[overload-overlap]
        self, prompts: Prompt, **options: Unpack[GenerationOptions]
    ) -> Generation: ...

    @overload
    def generate(
        self, prompts: Sequence[Prompt], **options: Unpack[GenerationOptions]
    ) -> list[Generation]: ...

    def generate(
        self,
        prompts: Prompt | Sequence[Prompt],
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        stop_token_ids: Collection[int] | None = None,
        num_beams: int = 1,
        length_penalty: float = 1.0,
        seed: int | None = None,
        logits_callback: LogitsCallback | None = None,
        return_logprobs: bool = False,
    ) -> Generation | list[Generation]:
        """Continue prompts.

        Parameters
        ----------
        prompts
            A text, a sequence of token ids, or a sequence of either. They may differ in length, and what all
            begin with is computed once.
        max_new_tokens
            The most tokens for each. Default 128. The end of the context ends them too.
        temperature, top_k, top_p, min_p, repetition_penalty
            As in `Sampling`. Default: the likeliest token each time.
        stop
            Strings that end a text; it is cut before them.
        stop_token_ids
            Tokens that end it. Default: those that the checkpoint names.
        num_beams
            More than 1 (the default): beam search, which takes neither a temperature nor stop strings.
        length_penalty
            Of beam search. Default 1.
        seed
            For drawing; the same seed gives a prompt the same tokens, whatever the others of the batch are:
            what counts is its place among them.
        logits_callback
            Called with a sequence's tokens and its logits (V,), before each choice; what it returns, or
            changes in place, is used.
        return_logprobs
            Whether to keep the log-probability of each token.

        Returns
        -------
        Generation, or list of Generation
            One for one prompt, a list for a sequence of prompts.

        Raises
        ------
        TypeError, ValueError
            If a prompt is empty, longer than the context, or has an unknown token; or an option is out of
            its range.

        Examples
        --------
        >>> import attnlib.models
        >>> model = attnlib.models.load("SmolLM2-135M-Instruct.Q4_1.gguf")  # doctest: +SKIP
        >>> model.generate("The capital of France is", max_new_tokens=2).text  # doctest: +SKIP
        ' Paris.'
        """
        one = isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], (int, np.integer)))
        several: list[Any] = [prompts] if one else list(prompts)
        sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
        ids = check_prompts(self.decoder, [self.encode(prompt) for prompt in several], max_new_tokens)
        if num_beams < 1:
            raise ValueError(f"generate: num_beams must be at least 1, got {num_beams}")
        if num_beams > 1:
            if temperature or stop or return_logprobs:
                raise ValueError("generate: num_beams takes no temperature, stop or return_logprobs")
            results = []
            for prompt in ids:
                ends = self._end_ids(stop_token_ids)
                tokens, score = beam_search(
                    self.decoder,
                    prompt,
                    num_beams=num_beams,
                    max_new_tokens=max_new_tokens,
                    length_penalty=length_penalty,
                    end_ids=ends,
                    sampling=sampling,
                    logits_callback=logits_callback,
                )
                reason = "stop" if tokens and tokens[-1] in ends else "length"
                results.append(Generation(tokens, self._text(tokens), reason, None, score))
            return results[0] if one else results

        results = [Generation(logprobs=[] if return_logprobs else None) for _ in ids]
        texts = self._texts(len(ids), stop)
        finished = self._finisher(results, texts, stop_token_ids)
        for _ in decode(
            self.decoder,
            ids,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed,
            logits_callback=logits_callback,
            finished=finished,
        ):
            pass
        for result, text in zip(results, texts, strict=True):
            text.end()
            result.text = text.text
        return results[0] if one else results

    def stream(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = 128,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        stop: str | Sequence[str] = (),
        stop_token_ids: Collection[int] | None = None,
        seed: int | None = None,
        logits_callback: LogitsCallback | None = None,
    ) -> Iterator[str]:
        """Continue one prompt and yield its text piece by piece as it comes; joined, it is `generate`'s.

        Parameters and errors are those of `generate`. A piece is held back while it may be the beginning of
        a stop string, or of a character whose bytes are not all there.
        """
        if self.tokenizer is None:
            raise ValueError("stream: the model has no tokenizer.json")
        sampling = Sampling(repetition_penalty, temperature, top_k, top_p, min_p)
        ids = check_prompts(self.decoder, [self.encode(prompt)], max_new_tokens)
        texts = self._texts(1, stop)
        finished = self._finisher([Generation()], texts, stop_token_ids)
        steps = decode(
            self.decoder,
            ids,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seed=seed,
            logits_callback=logits_callback,
            finished=finished,
        )
        return self._pieces(steps, texts[0])

    def _pieces(self, steps: Iterator[Step], text: StopText) -> Iterator[str]:
        for _ in steps:
            if piece := text.take():
                yield piece
        if piece := text.end():
            yield piece

    def _texts(self, count: int, stop: str | Sequence[str]) -> list[StopText]:
        stops = (stop,) if isinstance(stop, str) and stop else tuple(stop)
        if not all(isinstance(text, str) and text for text in stops):
            raise ValueError(f"generate: stop must hold texts that are not empty, got {stop!r}")
        if stops and self.tokenizer is None:
            raise ValueError("generate: stop needs a tokenizer, which the model does not have")
        streams = [None if self.tokenizer is None else self.tokenizer.stream() for _ in range(count)]
        return [StopText(stream, stops) for stream in streams]

    def _finisher(
        self,
        results: list[Generation],
        texts: list[StopText],
        stop_token_ids: Collection[int] | None,
    ) -> Callable[[Step], bool]:
        """Make the function that collects steps and says whether a sequence ends."""
        ends = self._end_ids(stop_token_ids)

        def finished(step: Step) -> bool:
            result, text = results[step.row], texts[step.row]
            result.tokens.append(step.token)
            text.push(step.token)
            if result.logprobs is not None:
                result.logprobs.append(step.logprob)
            over = step.token in ends or text.stopped
            if over:
                result.finish_reason = "stop"
            return over

        return finished

    def _end_ids(self, stop_token_ids: Collection[int] | None) -> frozenset[int]:
        if stop_token_ids is not None:
            for token in stop_token_ids:
                if not 0 <= token < self.decoder.vocab_size:
                    raise ValueError(f"generate: stop_token_ids holds {token}, which is unknown")
            return frozenset(stop_token_ids)
        return frozenset() if self.tokenizer is None else frozenset(self.tokenizer.end_ids)

    def _text(self, tokens: Sequence[int]) -> str:
        return "" if self.tokenizer is None else self.tokenizer.decode(tokens)
