"""The text of one sequence as its tokens come, up to a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from attnlib.models.text.text_stream import TextStream

__all__ = ["StopText"]


class StopText:
    """Text that grows token by token and ends before the first stop string.

    Parameters
    ----------
    stream
        How tokens become text; None for no text at all.
    stops
        Strings that end the text, none of them empty.

    Attributes
    ----------
    stopped
        Whether a stop string was found.
    """

    def __init__(self, stream: TextStream | None, stops: Sequence[str]) -> None:
        self._stream = stream
        self._stops = stops
        self._taken: list[str] = []
        # Text that is ready to be taken, and after it what may begin a stop string.
        self._ready = self._held = ""
        self.stopped = False

    def push(self, token: int) -> None:
        """Add a token."""
        if self._stream is None or self.stopped:
            return
        self._held += self._stream.push(token)
        if self._stops:
            # What is not certain counts, too: a newline may be a byte token, which others may follow.
            text = self._held + self._stream.rest()
            places = [place for stop in self._stops if (place := text.find(stop)) >= 0]
            if places:
                self.stopped = True
                self._ready += text[: min(places)]
                return
        ready = len(self._held) - max((_overlap(self._held, stop) for stop in self._stops), default=0)
        self._ready += self._held[:ready]
        self._held = self._held[ready:]

    def take(self) -> str:
        """Return what is ready and was not yet taken: no part of a character, nor what may begin a stop."""
        piece, self._ready = self._ready, ""
        self._taken.append(piece)
        return piece

    def end(self) -> str:
        """Take the rest, which waited for what no longer comes."""
        if self._stream is not None and not self.stopped:
            self._ready += self._held + self._stream.rest()
            self._stream = None
        return self.take()

    @property
    def text(self) -> str:
        """All that was taken."""
        return "".join(self._taken)


def _overlap(text: str, stop: str) -> int:
    """Count the characters at the end of `text` that may begin `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
