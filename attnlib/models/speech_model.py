"""A speech model with its front end and tokenizer: sound in, texts with their times out."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib import nn
from attnlib.checks import check_integer, check_number
from attnlib.models.audio import SAMPLE_RATE, LogMel, check_audio, read_audio, resample
from attnlib.models.audio.segments import Segment, Transcription, cut
from attnlib.models.audio.speech_tokens import SpeechTokens, TranscriptRules
from attnlib.models.families.whisper import WhisperModel
from attnlib.models.generation.beam_search import beam_search
from attnlib.models.generation.decoding import Step, decode
from attnlib.models.generation.sampling import Sampling, log_probability, log_softmax64
from attnlib.models.progress import progress
from attnlib.models.text.text_tokenizer import TextTokenizer

__all__ = ["SpeechModel"]

# What a transcript looks like that went wrong (section 4.5 of the paper): text that repeats itself compresses
# well, and wild guesses are improbable. Both together with the token of silence mean silence.
_MOST_COMPRESSION = 2.4
_LEAST_LOGPROB = -1.0
_MOST_SILENCE = 0.6

# A text that was drawn at more than this is no good example for what follows.
_HOTTEST_EXAMPLE = 0.5

TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class _Choice:
    """How tokens are chosen."""

    sampling: Sampling
    seed: int | None
    num_beams: int


@dataclass(frozen=True)
class _Written:
    """What the decoder wrote for one window."""

    tokens: list[int]
    logprob: float
    no_speech: float
    temperature: float


class SpeechModel:
    """A Whisper model that writes down what is said; `attnlib.models.load` makes it.

    Parameters
    ----------
    network
        The encoder and decoder.
    tokenizer
        Its tokenizer.
    tokens
        The tokens that are not text.
    """

    def __init__(self, network: WhisperModel, tokenizer: TextTokenizer, tokens: SpeechTokens) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.tokens = tokens
        self._log_mel = LogMel(network.config.num_mel_bins)

    @property
    def languages(self) -> tuple[str, ...]:
        """The codes of the languages that the model knows."""
        return tuple(self.tokens.languages) or ("en",)

    @property
    def window(self) -> int:
        """Samples that the encoder takes at once: 480,000, which are 30 seconds."""
        return self.network.frames * self._log_mel.hop

    @property
    def _place(self) -> int:
        """Samples of one place of the memory, and so of one step of time."""
        return self.window // self.network.config.max_source_positions

    def features(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Make the features (M, T) of one window of sound, which is filled up with silence."""
        return self._log_mel(samples, self.network.frames)

    def detect_language(
        self, audio: str | os.PathLike[str] | ArrayLike, *, rate: int = SAMPLE_RATE
    ) -> dict[str, float]:
        """Find the probability of each language, by the first window of sound.

        Parameters and errors are those of `transcribe`.
        """
        samples = _sound("detect_language", audio, rate)
        _, logits = self._listen(samples[: self.window], ())
        return self._language_probabilities(logits)

    def transcribe(
        self,
        audio: str | os.PathLike[str] | ArrayLike,
        *,
        rate: int = SAMPLE_RATE,
        language: str | None = None,
        task: str = "transcribe",
        timestamps: bool = False,
        temperature: float | Sequence[float] = TEMPERATURES,
        num_beams: int = 1,
        seed: int | None = 0,
        prompt: str | None = None,
        condition_on_previous_text: bool = True,
        show_progress: bool = False,
    ) -> Transcription:
        """Write down what is said.

        Parameters
        ----------
        audio : path, or (N,) floats or int16
            A sound file, as `attnlib.models.audio.read_audio` takes it, or samples of one channel, floats
            from -1 to 1.
        rate
            Samples a second, if `audio` is an array. Default 16000; others are resampled.
        language
            The code of the language, such as ``"en"``. Default: the likeliest in the first window.
        task
            ``"transcribe"`` (default), or ``"translate"``: into English.
        timestamps
            Whether the model says where segments begin and end. Default False: what fits in one window of 30
            seconds becomes one segment. Longer sound is always written with them, as the next window begins
            where the last whole segment ends (section 4.5 of the paper).
        temperature
            0 takes the likeliest token each time. Of several, the first whose text neither repeats itself
            (compressed to less than 1 / 2.4) nor is too improbable (a mean log-probability below -1); else
            the last. Default: 0, 0.2, ... 1.
        num_beams
            More than 1: beam search in place of the likeliest token each time. Default 1; the paper takes 5.
        seed
            For drawing. Default 0; None draws differently each time.
        prompt
            Words and names that may occur, or the text before.
        condition_on_previous_text
            Whether the text of a window goes before that of the next, as an example. Default True.
        show_progress
            Whether to show on standard error how many seconds of the sound were heard. Default False.

        Returns
        -------
        Transcription

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        TypeError, ValueError
            If `audio` is empty, damaged, holds NaN or is nothing of the kind; or the model does not know the
            language or the task.

        Examples
        --------
        >>> import attnlib.models
        >>> model = attnlib.models.load("whisper-tiny")  # doctest: +SKIP
        >>> model.transcribe("speech.wav").text  # doctest: +SKIP
        ' Hello, world.'
        """
        samples = _sound("transcribe", audio, rate)
        self._check(language, task)
        # mypy does not know that what has no axis is a number, and what has one is not.
        given = [temperature] if np.ndim(temperature) == 0 else list(temperature)  # type: ignore[arg-type]
        several = [check_number("transcribe", "temperature", value, 0) for value in given]
        if not several:
            raise ValueError("transcribe: temperature must be a number or some, got none")
        check_integer("transcribe", "num_beams", num_beams, 1)
        if seed is not None:
            check_integer("transcribe", "seed", seed, 0)
        choices = [_Choice(Sampling(temperature=value), seed, 1 if value else num_beams) for value in several]
        result = Transcription("", language or "", samples.size / SAMPLE_RATE)
        example = [] if prompt is None else self.tokenizer.encode(" " + prompt.strip(), special=False)
        with_times = timestamps or samples.size > self.window
        begin = 0
        with progress(round(result.duration), "s", shown=show_progress) as heard:
            while begin < samples.size:
                sound = samples[begin : begin + self.window]
                before = self._before(example)
                past, logits = self._listen(sound, before)
                if not result.language:
                    chances = self._language_probabilities(logits)
                    result.language = max(chances, key=lambda code: chances[code])
                start = [*before, *self.tokens.prompt(result.language, task, with_times)]
                silence = math.exp(log_probability(logits, self.tokens.no_speech))
                written = self._write(past, start, with_times, choices, silence)
                pieces, places = cut(written.tokens, self.tokens.first_timestamp)
                if written.no_speech > _MOST_SILENCE and written.logprob < _LEAST_LOGPROB:
                    places = None  # nobody speaks: where what was written ends means nothing
                else:
                    found = self._segments(written, pieces, begin / SAMPLE_RATE, result.duration)
                    result.segments += found
                    if not condition_on_previous_text or written.temperature > _HOTTEST_EXAMPLE:
                        example = []
                    else:
                        example += [token for segment in found for token in segment.tokens]
                end = begin + (sound.size if places is None else min(places * self._place, sound.size))
                heard(round(end / SAMPLE_RATE) - round(begin / SAMPLE_RATE))
                begin = end
        result.text = "".join(segment.text for segment in result.segments)
        return result

    def _check(self, language: str | None, task: str) -> None:
        if language is not None and language not in self.languages:
            raise ValueError(
                f"transcribe: language {language!r} is not known; known are {', '.join(self.languages)}"
            )
        tasks = tuple(self.tokens.tasks) or ("transcribe",)
        if task not in tasks:
            raise ValueError(f"transcribe: task must be {' or '.join(tasks)} with this model, got {task!r}")

    def _before(self, example: Sequence[int]) -> list[int]:
        """Make the beginning of a prompt of the text before; half of the context is for it at most."""
        kept = self.network.context_length // 2 - 1
        return [self.tokens.previous, *example[-kept:]] if example and kept > 0 else []

    def _listen(
        self, sound: NDArray[np.float32], before: Sequence[int]
    ) -> tuple[nn.DecoderPast, NDArray[np.float32]]:
        """Encode one window; return a past that holds `before`, and the logits (V,) after the start token."""
        network = self.network
        memory = network.encode(self.features(sound)[None])
        past = network.begin(memory, capacity=network.context_length)
        hidden = network.hidden(np.array([[*before, self.tokens.start]], np.intp), past)
        # Decoding begins with the last of them again: it may be all that is left of a prompt.
        past.target.truncate(len(before))
        logits: NDArray[np.float32] = network.logits(hidden[:, -1])[0]
        return past, logits

    def _language_probabilities(self, logits: NDArray[np.float32]) -> dict[str, float]:
        codes = self.tokens.languages
        if not codes:
            return {"en": 1.0}
        chances = np.exp(log_softmax64(logits[list(codes.values())]))
        return dict(zip(codes, chances.tolist(), strict=True))

    def _write(
        self,
        past: nn.DecoderPast,
        start: list[int],
        timestamps: bool,
        choices: Sequence[_Choice],
        silence: float,
    ) -> _Written:
        """Decode one window, at higher temperatures if the text is no good."""
        rules = TranscriptRules(self.tokens, len(start), timestamps)
        for choice in choices:
            found, logprob = self._decode(past.fork(1)[0], start, choice, rules)
            tokens = [token for token in found if token != self.tokens.end]
            written = _Written(tokens, logprob, silence, choice.sampling.temperature)
            silent = silence > _MOST_SILENCE and logprob < _LEAST_LOGPROB
            repeated = _compression(self._text(tokens)) > _MOST_COMPRESSION
            if silent or (logprob >= _LEAST_LOGPROB and not repeated):
                break
        return written

    def _decode(
        self, past: nn.DecoderPast, start: list[int], choice: _Choice, rules: TranscriptRules
    ) -> tuple[list[int], float]:
        """Write tokens after `start`; return them, with the last, and their mean log-probability."""
        most = self.network.context_length // 2
        if choice.num_beams > 1:
            return beam_search(
                self.network,
                start,
                past=past,
                num_beams=choice.num_beams,
                max_new_tokens=most,
                length_penalty=1.0,
                end_ids=(self.tokens.end,),
                sampling=choice.sampling,
                logits_callback=rules,
                renormalize=True,
            )
        steps: list[Step] = []

        def finished(step: Step) -> bool:
            steps.append(step)
            return step.token == self.tokens.end

        for _ in decode(
            self.network,
            [start],
            past=past,
            max_new_tokens=most,
            sampling=choice.sampling,
            seed=choice.seed,
            logits_callback=rules,
            renormalize=True,
            finished=finished,
        ):
            pass
        return [step.token for step in steps], sum(step.logprob for step in steps) / len(steps)

    def _segments(
        self, written: _Written, pieces: list[list[int]], offset: float, duration: float
    ) -> list[Segment]:
        """Give the pieces of a window, which begins at `offset`, their times and texts."""
        first, step = self.tokens.first_timestamp, self._place / SAMPLE_RATE
        end_of_window = min(duration, offset + self.window / SAMPLE_RATE)
        segments = []
        for piece in pieces:
            text = self._text(piece)
            if not text.strip():
                continue
            start, end = offset, end_of_window
            if piece[0] >= first:
                start = min(round(offset + (piece[0] - first) * step, 3), end_of_window)
            if piece[-1] >= first:
                end = min(round(offset + (piece[-1] - first) * step, 3), end_of_window)
            quality = written.logprob, written.no_speech, written.temperature
            segments.append(Segment(start, end, text, piece, *quality))
        return segments

    def _text(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode([token for token in tokens if token < self.tokens.first_timestamp])


def _sound(caller: str, audio: str | os.PathLike[str] | ArrayLike, rate: int) -> NDArray[np.float32]:
    """Read a file or check an array."""
    if isinstance(audio, (str, os.PathLike)):
        return read_audio(audio)
    return resample(check_audio(caller, audio), rate, SAMPLE_RATE)


def _compression(text: str) -> float:
    """Find how many times shorter a text becomes."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0
