"""A conversation with a language model, of which only what is new is run at each turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnlib import nn
from attnlib.models.generation.options import StreamOptions
from attnlib.models.generation.stream import GenerationStream
from attnlib.models.language_model import LanguageModel

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Conversation"]


class Conversation:
    """Messages and answers in the model's chat template, with the keys and values of all that was said.

    The template writes the whole conversation anew for each answer. What it begins with as before is not run
    again; where it changed the past (some leave things out of earlier answers, and a text may be cut into
    other tokens than those that were generated) the cache is rolled back to there.

    Parameters
    ----------
    model
        With a tokenizer that has a chat template.
    system
        What the model is told before the conversation. Default: what the template says by itself.

    Attributes
    ----------
    new_tokens : int
        How many tokens of the last prompt were not in the cache.

    Raises
    ------
    ValueError
        If the model has no tokenizer or no chat template.

    Examples
    --------
    >>> import attnlib.models
    >>> model = attnlib.models.load("SmolLM2-135M-Instruct.Q4_1.gguf")  # doctest: +SKIP
    >>> conversation = attnlib.models.Conversation(model, system="Be brief.")  # doctest: +SKIP
    >>> for piece in conversation.answer("Who are you?"):  # doctest: +SKIP
    ...     print(piece, end="")
    """

    def __init__(self, model: LanguageModel, *, system: str | None = None) -> None:
        if model.tokenizer is None:
            raise ValueError("Conversation: the model has no tokenizer.json")
        self._model = model
        self._tokenizer = model.tokenizer
        self._system = system
        self.reset()
        # A template that is missing is better told now.
        self._tokenizer.chat([{"role": "user", "content": ""}])

    @property
    def messages(self) -> list[dict[str, str]]:
        """A copy of what was said, as `TextTokenizer.chat` takes it; of the last answer what was read."""
        return [dict(message) for message in (*self._messages, *self._latest())]

    def reset(self) -> None:
        """Forget all that was said."""
        system = [] if self._system is None else [{"role": "system", "content": self._system}]
        self._messages: list[dict[str, str]] = system
        self.new_tokens = 0
        self._cache: nn.KVCache | None = None
        # The tokens whose keys and values are in the cache.
        self._seen: list[int] = []
        # The last question with its tokens and answer, which may be read by and by.
        self._last: tuple[str, list[int], GenerationStream] | None = None

    def answer(self, text: str, **options: Unpack[StreamOptions]) -> GenerationStream:
        """Say something and get the answer piece by piece.

        Whoever stops reading an answer cuts it short: it stays in the conversation as far as it was read. If
        nothing was, the question does not stay either.

        Parameters
        ----------
        text
            The user's message.
        **options
            As `LanguageModel.stream` takes them.

        Returns
        -------
        GenerationStream
            An iterator over the pieces.

        Raises
        ------
        ValueError
            If the conversation has become as long as the context, the template refuses it, or an option is
            out of its range. The conversation is then as it was.
        """
        self._settle()
        ids = self._tokenizer.encode_chat([*self._messages, {"role": "user", "content": text}])
        stream = self._model.stream(ids, past=self._rolled_back(ids), **options)
        self._last = text, ids, stream
        return stream

    def _latest(self) -> list[dict[str, str]]:
        """Return the last question and its answer, if anything was read of it."""
        if self._last is None or not self._last[2].result.text:
            return []
        text, _, stream = self._last
        return [{"role": "user", "content": text}, {"role": "assistant", "content": stream.result.text}]

    def _settle(self) -> None:
        """Take the last answer, as far as it was read, into the conversation, and end it there."""
        if self._last is None:
            return
        self._messages += self._latest()
        (_, ids, stream), self._last = self._last, None
        stream.close()  # it would go on writing into the cache
        if stream.interrupted or self._cache is None:
            self._cache, self._seen = None, []
        else:
            self._seen = [*ids, *stream.result.tokens][: int(self._cache.positions[0])]

    def _rolled_back(self, ids: list[int]) -> nn.KVCache:
        """Return the cache with what it shares with a prompt; at least the last token is left to be run."""
        same = 0
        for seen, token in zip(self._seen, ids[:-1], strict=False):
            if seen != token:
                break
            same += 1
        if self._cache is None or not _rewind(self._cache, same):
            self._cache, same = self._model.decoder.cache(1, len(ids) + 1), 0
        self._seen = self._seen[:same]
        self.new_tokens = len(ids) - same
        return self._cache


def _rewind(cache: nn.KVCache, length: int) -> bool:
    """Go back to the first `length` tokens, or say that too many of them were evicted."""
    evicted = int(cache.positions[0] - cache.lengths[0])
    if evicted and length - evicted < min(length, (cache.window or 0) - 1):
        return False
    cache.truncate(length - evicted)
    return True
