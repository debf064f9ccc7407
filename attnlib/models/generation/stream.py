"""A text that is being generated, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from attnlib.models.generation.decoding import Step
from attnlib.models.text.stop_text import StopText

if TYPE_CHECKING:
    from attnlib.models.text_generator import Generation

__all__ = ["GenerationStream"]


class GenerationStream(Iterator[str]):
    """Pieces of one text as they come; `TextGenerator.stream` makes it.

    Parameters
    ----------
    steps
        What generates: after each step `text` and `result` have its token.
    text
        The text of the tokens.
    result
        Where the tokens are collected.

    Attributes
    ----------
    result : Generation
        What there is so far. Its `text` is what the pieces joined are; its tokens may be further.
    interrupted : bool
        Whether an exception, of the keyboard say, came out of a step: the cache is then in the midst of it.
    """

    def __init__(self, steps: Iterator[Step], text: StopText, result: Generation) -> None:
        self._steps = steps
        self._text = text
        self.result = result
        self.interrupted = False
        self._closed = False

    def close(self) -> None:
        """Generate no more: what was not read yet is lost."""
        self._closed = True
        self._steps = iter(())

    def __iter__(self) -> GenerationStream:
        return self

    def __next__(self) -> str:
        """Generate until there is a piece that can be shown."""
        if self._closed:
            raise StopIteration
        piece = ""
        try:
            while not piece and next(self._steps, None) is not None:
                piece = self._text.take()
        except BaseException:
            self.interrupted = True
            raise
        piece = piece or self._text.end()
        if not piece:
            raise StopIteration
        self.result.text += piece
        return piece
