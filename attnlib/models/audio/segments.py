"""The pieces of a transcript, and how the tokens of one window are cut into them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Segment", "Transcription", "cut"]


@dataclass(frozen=True)
class Segment:
    """A piece of a transcript.

    Attributes
    ----------
    start, end
        Seconds from the beginning of the sound.
    text
        Without special tokens.
    tokens
        As written, with those of time, which count from the beginning of the segment's window.
    logprob
        The mean log-probability of the tokens of its window, each among those that the rules of a transcript
        left to choose from, before temperature.
    no_speech
        The probability that nobody speaks in its window.
    temperature
        At which its window was written.
    """

    start: float
    end: float
    text: str
    tokens: list[int]
    logprob: float
    no_speech: float
    temperature: float


@dataclass
class Transcription:
    """What was heard.

    Attributes
    ----------
    text
        Of all segments.
    segments
        In the order of time.
    language
        Its code, given or found.
    duration
        Seconds of sound.
    """

    text: str
    language: str
    duration: float
    segments: list[Segment] = field(default_factory=list)


def cut(tokens: Sequence[int], first_timestamp: int) -> tuple[list[list[int]], int | None]:
    """Cut what was written for a window into segments.

    A segment ends between two tokens of time. If the last of all tokens is one that stands alone, nothing is
    said after it in this window; otherwise the text after the last pair was cut off by the window's end, and
    the next window begins at that pair (section 4.5 of the paper).

    Parameters
    ----------
    tokens
        Without that of the end.
    first_timestamp
        The token of time 0; those of later times follow it.

    Returns
    -------
    pieces : list of list of int
        The tokens of each segment, with those of time around them.
    steps : int or None
        After how many steps of time the next window begins; None: after the whole window.

    Examples
    --------
    Times from token 100 on; the last text is not whole:

    >>> cut([100, 7, 8, 120, 120, 9, 140, 140, 5], 100)
    ([[100, 7, 8, 120], [120, 9, 140]], 40)
    >>> cut([100, 7, 8, 120], 100)
    ([[100, 7, 8, 120]], None)
    """
    times = [token >= first_timestamp for token in tokens]
    cuts = [place for place in range(1, len(tokens)) if times[place - 1] and times[place]]
    pieces = [list(tokens[a:b]) for a, b in zip([0, *cuts], [*cuts, len(tokens)], strict=True)]
    if not cuts or times[-2:] == [False, True]:
        return [piece for piece in pieces if piece], None
    # At least one, so that there is an end.
    return pieces[:-1], max(1, tokens[cuts[-1] - 1] - first_timestamp)
