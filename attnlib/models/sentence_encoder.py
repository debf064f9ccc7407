"""Texts in, one vector each out.

Letters: T tokens of packed texts, n texts, d the size of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from attnlib.models.families.bert import BertModel
from attnlib.models.pooling import Vectors, normalise, pool
from attnlib.models.progress import progress
from attnlib.models.text.sentence_tokenizer import Tokenizer

__all__ = ["SentenceEncoder"]

# Texts that are sorted by length and held as tokens at one time, and that are given to the tokenizer at one
# time: its own records are some hundred bytes a token.
_CHUNK = 2048
_TOKENIZER_CHUNK = 256


class SentenceEncoder:
    """A text encoder with its tokenizer and pooling; made by `attnlib.models.load`.

    Attributes
    ----------
    model : BertModel
    tokenizer : Tokenizer
    dimension : int
        Size d of a vector.
    max_length : int
        The most tokens of a text that count; the rest is cut off.
    """

    def __init__(
        self,
        model: BertModel,
        tokenizer: Tokenizer,
        *,
        pooling: tuple[str, ...] = ("mean",),
        head: Sequence[Callable[[Vectors], Vectors]] = (),
        normalize: bool = False,
        prompt: str = "",
        include_prompt: bool = True,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = tokenizer.max_length
        self._pooling = pooling
        self._head = tuple(head)
        self._normalize = normalize
        self._prompt = prompt
        self._skipped = 0 if include_prompt or not prompt else tokenizer.prompt_length(prompt)
        self.dimension = self._finish(
            np.zeros((0, model.config.hidden_size * len(pooling)), dtype=np.float32), normalize
        ).shape[1]

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        batch_tokens: int = 2048,
        normalize: bool | None = None,
        show_progress: bool = False,
    ) -> Vectors:
        """Encode texts.

        A text's vector has the same bits whatever stands beside it, in any batch and on any number of
        threads.

        Parameters
        ----------
        texts
            One text, or any number of them; an iterator is read in chunks.
        batch_tokens
            About how many tokens to run at a time, packed end to end without padding. It bounds the memory
            in use. Default 2048.
        normalize
            Whether to scale the vectors to length 1. Default: as the model's folder says.
        show_progress
            Whether to show a progress bar on standard error. Default False.

        Returns
        -------
        (n, d) float32 ndarray
            In the order of the texts; (d,) for a single str.

        Raises
        ------
        TypeError, ValueError
            If a text is not a str or not valid Unicode, or `batch_tokens` is not positive.
        """
        if isinstance(texts, str):
            vector: Vectors = self.encode([texts], batch_tokens=batch_tokens, normalize=normalize)[0]
            return vector
        chunks = self.encode_iter(
            texts, batch_tokens=batch_tokens, normalize=normalize, show_progress=show_progress
        )
        if isinstance(texts, Sequence):
            # The number is known: no second copy of the vectors at the end.
            vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
            start = 0
            for chunk in chunks:
                vectors[start : start + len(chunk)] = chunk
                start += len(chunk)
            return vectors
        return np.concatenate([np.empty((0, self.dimension), dtype=np.float32), *chunks])

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        batch_tokens: int = 2048,
        normalize: bool | None = None,
        show_progress: bool = False,
        total: int | None = None,
    ) -> Iterator[Vectors]:
        """Encode texts as a stream: `encode` in bounded memory, however many texts there are.

        Parameters and errors are those of `encode`; `total` tells the progress bar how many texts there are,
        if `texts` has no length.

        Yields
        ------
        (m, d) float32 ndarray
            The vectors of the next m texts, in the order of the texts.
        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise TypeError(f"encode: texts must be an iterable of str, got {type(texts).__name__}")
        if batch_tokens < 1:
            raise ValueError(f"encode: batch_tokens must be positive, got {batch_tokens}")
        if total is None and isinstance(texts, Sequence):
            total = len(texts)
        if normalize is None:
            normalize = self._normalize
        return self._stream(texts, batch_tokens, normalize, progress(total, "text", shown=show_progress))

    def _stream(
        self,
        texts: Iterable[str],
        batch_tokens: int,
        normalize: bool,
        bar: AbstractContextManager[Callable[[int], object]],
    ) -> Iterator[Vectors]:
        remaining = iter(texts)
        done = 0
        with bar as update:
            while chunk := list(islice(remaining, _CHUNK)):
                tokens = self.tokenize(chunk, done)
                lengths = np.array([len(ids) for ids in tokens])
                vectors = np.empty((len(chunk), self.dimension), dtype=np.float32)
                for members in _batches(lengths, batch_tokens):
                    vectors[members] = self._run([tokens[i] for i in members], lengths[members], normalize)
                    update(len(members))
                done += len(chunk)
                yield vectors

    def tokenize(self, texts: list[str], done: int = 0) -> list[NDArray[np.intp]]:
        """Turn each text into its token numbers, cut to the maximum length.

        Parameters
        ----------
        texts
            Unicode; the model's prompt, if it has one, is put before each.
        done
            How many texts came before these: errors count from there. Default 0.

        Raises
        ------
        TypeError, ValueError
            If a text is not a str or not valid Unicode.
        """
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"encode: texts[{done + index}] must be a str, got {type(text).__name__}")
        if self._prompt:
            texts = [self._prompt + text for text in texts]
        tokens: list[NDArray[np.intp]] = []
        for start in range(0, len(texts), _TOKENIZER_CHUNK):
            tokens += self.tokenizer(texts[start : start + _TOKENIZER_CHUNK])
        return tokens

    def _run(self, tokens: list[NDArray[np.intp]], lengths: NDArray[np.intp], normalize: bool) -> Vectors:
        cu_seqlens = np.zeros(len(tokens) + 1, dtype=np.intp)
        np.cumsum(lengths, out=cu_seqlens[1:])
        hidden = self.model(np.concatenate(tokens), cu_seqlens)
        return self._finish(pool(hidden, cu_seqlens, self._pooling, self._skipped), normalize)

    def _finish(self, vectors: Vectors, normalize: bool) -> Vectors:
        for step in self._head:
            vectors = step(vectors)
        return normalise(vectors) if normalize else vectors


def _batches(lengths: NDArray[np.intp], batch_tokens: int) -> Iterator[NDArray[np.intp]]:
    """Yield the numbers of texts of like lengths, so many that they have about `batch_tokens` tokens.

    The longest come first: what a stream needs most memory for is over at its beginning.
    """
    order = np.argsort(-lengths, kind="stable")
    ends = np.cumsum(lengths[order])
    start = 0
    while start < len(order):
        before = ends[start - 1] if start else 0
        stop = int(np.searchsorted(ends, before + batch_tokens, side="right"))
        stop = max(stop, start + 1)
        yield order[start:stop]
        start = stop
