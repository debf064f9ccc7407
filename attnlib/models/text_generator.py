"""From options to texts: what language models and encoder-decoders have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from attnlib import nn
from attnlib.checks import check_integer, check_number
from attnlib.models.families.token_model import TokenModel
from attnlib.models.generation.beam_search import beam_search
from attnlib.models.generation.decoding import LogitsCallback, Past, Step, chain, decode
from attnlib.models.generation.options import GenerationOptions
from attnlib.models.generation.sampling import Sampling
from attnlib.models.generation.settings import LENGTH_PENALTIES, GenerationSettings
from attnlib.models.generation.stream import GenerationStream
from attnlib.models.text.stop_text import StopText
from attnlib.models.text.text_tokenizer import TextTokenizer

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Generation", "Prompt", "TextGenerator"]

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


class TextGenerator(ABC):
    """Base class of `LanguageModel` and `TextToTextModel`.

    Parameters
    ----------
    model
        The network.
    tokenizer
        None if the checkpoint has none: prompts are then token numbers.
    settings
        What holds where a caller says nothing.
    """

    def __init__(
        self, model: TokenModel, tokenizer: TextTokenizer | None, settings: GenerationSettings
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.settings = settings

    @abstractmethod
    def begin(self, prompts: list[list[int]], new_tokens: int) -> tuple[list[list[int]], Past | None]:
        """Check prompts and return the tokens that each sequence begins with, and where decoding starts."""

    def encode(self, prompt: Prompt) -> list[int]:
        """Turn a prompt into token numbers, if it is not already."""
        if not isinstance(prompt, str):
            _check_prompt("each of prompts", prompt)
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
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float | None = None,
        stop: str | Sequence[str] | None = (),
        stop_token_ids: Collection[int] | None = None,
        num_beams: int | None = None,
        length_penalty: float | None = None,
        seed: int | None = None,
        logits_callback: LogitsCallback | None = None,
        return_logprobs: bool = False,
    ) -> Generation | list[Generation]:
        """Continue prompts, or write what belongs to each source.

        What `settings` hold, which an encoder-decoder has from ``generation_config.json``, is the default of
        `max_new_tokens`, `repetition_penalty`, `num_beams` and `length_penalty`.

        Parameters
        ----------
        prompts
            A text, a sequence of token ids, or a sequence of either: of a language model beginnings, of an
            encoder-decoder sources. They may differ in length, and what all prompts of a language model
            begin with is computed once.
        max_new_tokens
            The most tokens for each. Default of the settings: 128. The end of the context ends them too.
        temperature, top_k, top_p, min_p, repetition_penalty
            As in `Sampling`. Default: the likeliest token each time.
        stop
            Strings that end a text; it is cut before them. Default: none.
        stop_token_ids
            Tokens that end it. Default: those that the checkpoint names.
        num_beams
            More than 1: beam search, which takes neither a temperature nor stop strings nor
            `return_logprobs`. Default of the settings: 1.
        length_penalty
            Of beam search, from -32 to 32. Default of the settings: 1.
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
            If a prompt is bytes, empty, longer than the context, or has an unknown token; or an option is out
            of its range.

        Examples
        --------
        >>> import attnlib.models
        >>> model = attnlib.models.load("SmolLM2-135M-Instruct.Q4_1.gguf")  # doctest: +SKIP
        >>> model.generate("The capital of France is", max_new_tokens=2).text  # doctest: +SKIP
        ' Paris.'
        """
        _check_prompt("prompts", prompts)
        one = isinstance(prompts, str) or (len(prompts) > 0 and isinstance(prompts[0], (int, np.integer)))
        several: list[Any] = [prompts] if one else list(prompts)
        settings = self.settings
        count = settings.max_new_tokens if max_new_tokens is None else max_new_tokens
        sampling = self._sampling(repetition_penalty, temperature, top_k, top_p, min_p)
        ends = self._end_ids(stop_token_ids)
        beams = settings.num_beams if num_beams is None else num_beams
        beams = check_integer("generate", "num_beams", beams, 1)
        _check_seed(seed)
        if beams > 1 and (temperature or stop or return_logprobs):
            hint = (
                f"; the checkpoint's num_beams is {beams}, so give num_beams=1" if num_beams is None else ""
            )
            raise ValueError(f"generate: num_beams takes no temperature, stop or return_logprobs{hint}")
        power = settings.length_penalty if length_penalty is None else length_penalty
        power = check_number("generate", "length_penalty", power, *LENGTH_PENALTIES)
        texts = self._texts(len(several), stop)
        ids, past = self.begin([self.encode(prompt) for prompt in several], count)
        rules = self._rules(ids, count, logits_callback)
        if beams > 1:
            pasts: list[Any] = [None] * len(ids) if past is None else list(past.fork(len(ids)))
            results = []
            for row, (prompt, own) in enumerate(zip(ids, pasts, strict=True)):
                if own is not None:
                    own.reorder([row])
                tokens, score = beam_search(
                    self.model,
                    prompt,
                    past=own,
                    num_beams=beams,
                    max_new_tokens=count,
                    length_penalty=power,
                    end_ids=ends,
                    sampling=sampling,
                    logits_callback=rules,
                    early_stopping=settings.early_stopping,
                    renormalize=settings.renormalize_logits,
                )
                reason = "stop" if tokens and tokens[-1] in ends else "length"
                results.append(Generation(tokens, self._text(tokens), reason, None, score))
            return results[0] if one else results

        results = [Generation(logprobs=[] if return_logprobs else None) for _ in ids]
        for _ in decode(
            self.model,
            ids,
            past=past,
            max_new_tokens=count,
            sampling=sampling,
            seed=seed,
            logits_callback=rules,
            finished=_finisher(results, texts, ends),
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
        max_new_tokens: int | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float | None = None,
        stop: str | Sequence[str] | None = (),
        stop_token_ids: Collection[int] | None = None,
        seed: int | None = None,
        logits_callback: LogitsCallback | None = None,
        past: nn.KVCache | None = None,
    ) -> GenerationStream:
        """Continue one prompt and yield its text piece by piece as it comes; joined, it is `generate`'s.

        Other parameters and errors are those of `generate`; there are no beams. A piece is held back while it
        may be the beginning of a stop string, or of a character whose bytes are not all there.

        Parameters
        ----------
        past
            Only of a language model: a cache of one sequence that holds the first tokens of the prompt, but
            not all. Those that it lacks are added to it, and all new ones but the last. Default: an empty
            one.

        Returns
        -------
        GenerationStream
            An iterator over the pieces, whose `result` grows with them.
        """
        if self.tokenizer is None:
            raise ValueError("stream: the model has no tokenizer.json")
        count = self.settings.max_new_tokens if max_new_tokens is None else max_new_tokens
        sampling = self._sampling(repetition_penalty, temperature, top_k, top_p, min_p)
        ends, texts = self._end_ids(stop_token_ids), self._texts(1, stop)
        _check_seed(seed)
        ids, start = self.begin([self.encode(prompt)], count)
        if past is not None and start is not None:
            raise ValueError("stream: past is for language models; this one starts from its source")
        if past is not None:
            self._check_past(past)
        result = Generation()
        steps = decode(
            self.model,
            ids,
            past=start if past is None else past,
            max_new_tokens=count,
            sampling=sampling,
            seed=seed,
            logits_callback=self._rules(ids, count, logits_callback),
            finished=_finisher([result], texts, ends),
        )
        return GenerationStream(steps, texts[0], result)

    def _check_past(self, past: object) -> None:
        """Raise unless `past` is a cache of this model's sizes, before some layers of it are written."""
        if not isinstance(past, nn.KVCache):
            raise TypeError(f"stream: past must be a KVCache, got {type(past).__name__}")
        found = past.num_layers, past.num_kv_heads, past.head_dim
        if found != (wanted := (self.model.num_layers, self.model.num_key_value_heads, self.model.head_dim)):
            raise ValueError(
                f"stream: past has {found} layers, heads and features of a head, the model has {wanted}"
            )

    def _sampling(self, repetition_penalty: float | None, *others: Any) -> Sampling:
        usual = self.settings.repetition_penalty
        return Sampling(usual if repetition_penalty is None else repetition_penalty, *others)

    def _rules(
        self, starts: list[list[int]], count: int, logits_callback: LogitsCallback | None
    ) -> LogitsCallback | None:
        """Put the caller's function and the checkpoint's rules in a row."""
        if not starts:
            return None
        longest = min(len(starts[0]) + count, self.model.context_length)
        return chain(logits_callback, self.settings.rules.callback(len(starts[0]), longest))

    def _texts(self, count: int, stop: str | Sequence[str] | None) -> list[StopText]:
        if stop is not None and not isinstance(stop, Iterable):
            raise TypeError(f"generate: stop must be a text or several, got {type(stop).__name__}")
        stops = (stop,) if isinstance(stop, str) and stop else tuple(() if stop is None else stop)
        if not all(isinstance(text, str) and text for text in stops):
            raise ValueError(f"generate: stop must hold texts that are not empty, got {stop!r}")
        if stops and self.tokenizer is None:
            raise ValueError("generate: stop needs a tokenizer, which the model does not have")
        streams = [None if self.tokenizer is None else self.tokenizer.stream() for _ in range(count)]
        return [StopText(stream, stops) for stream in streams]

    def _end_ids(self, stop_token_ids: Collection[int] | None) -> frozenset[int]:
        if stop_token_ids is None:
            return frozenset(self.settings.end_ids)
        if not isinstance(stop_token_ids, Iterable):
            raise TypeError(
                f"generate: stop_token_ids must be several integers, got {type(stop_token_ids).__name__}"
            )
        # An iterator can be read once.
        tokens = list(stop_token_ids)
        for token in tokens:
            if isinstance(token, bool) or not isinstance(token, (int, np.integer)):
                raise TypeError(f"generate: stop_token_ids must hold integers, found {token!r:.60}")
            if not 0 <= token < self.model.vocab_size:
                raise ValueError(f"generate: stop_token_ids holds {token}, which is unknown")
        return frozenset(tokens)

    def _text(self, tokens: Sequence[int]) -> str:
        return "" if self.tokenizer is None else self.tokenizer.decode(tokens)


def _check_prompt(name: str, prompt: object) -> None:
    # Bytes are a sequence of integers, too, but hardly meant as tokens.
    if isinstance(prompt, (bytes, bytearray, memoryview)) or not hasattr(prompt, "__getitem__"):
        raise TypeError(
            f"generate: {name} must be a text or a sequence of token ids, got {type(prompt).__name__}"
        )


def _check_seed(seed: int | None) -> None:
    if seed is not None:
        check_integer("generate", "seed", seed, 0)


def _finisher(
    results: list[Generation], texts: list[StopText], ends: Collection[int]
) -> Callable[[Step], bool]:
    """Make the function that collects steps and says whether a sequence ends."""

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
