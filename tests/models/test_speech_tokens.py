"""The tokens that are not text, and the rules of a transcript."""

from __future__ import annotations

import numpy as np
import pytest

from attnlib.models.audio.segments import cut
from attnlib.models.audio.speech_tokens import SpeechTokens, TranscriptRules

from . import speech

VOCABULARY = speech.tokenizer().get_vocab(with_added_tokens=True)
TOKENS = SpeechTokens.find(
    VOCABULARY,
    size=speech.VOCABULARY,
    multilingual=True,
    suppressed=[1, 2],
    suppressed_first=[3, speech.END],
)
FIRST = speech.FIRST


def test_tokens_are_found() -> None:
    assert TOKENS.start == speech.START
    assert TOKENS.languages == {"de": 259, "en": 258, "fr": 260}
    assert TOKENS.tasks == {"transcribe": 262, "translate": 261}
    assert TOKENS.prompt("de", "translate", False) == [speech.START, 259, 261, speech.NO_TIMESTAMPS]
    assert TOKENS.prompt("en", "transcribe", True) == [speech.START, 258, 262]
    english = SpeechTokens.find(VOCABULARY, size=speech.VOCABULARY, multilingual=False)
    assert english.prompt("en", "transcribe", False) == [speech.START, speech.NO_TIMESTAMPS]
    assert english.prompt("en", "transcribe", True) == [speech.START]


def test_a_missing_token_is_named() -> None:
    for name in ("<|startofprev|>", "<|nospeech|>"):
        rest = {token: number for token, number in VOCABULARY.items() if token != name}
        with pytest.raises(ValueError, match=name.strip("<|>")):
            SpeechTokens.find(rest, size=speech.VOCABULARY, multilingual=True)


@pytest.mark.parametrize("name", ["<|startoftranscript|>", "<|endoftext|>", "<|translate|>", "<|fr|>"])
def test_a_token_that_the_model_does_not_know_is_named(name: str) -> None:
    size = speech.VOCABULARY
    with pytest.raises(
        ValueError, match=rf"{name.strip('<|>')}\|> is token {size}, but the model has {size}"
    ):
        SpeechTokens.find({**VOCABULARY, name: size}, size=size, multilingual=True)


def _allowed(written: list[int], *, timestamps: bool = True, favourite: int | None = None) -> set[int]:
    """Find what may follow, where all tokens are equally likely but perhaps one."""
    logits = np.zeros(speech.VOCABULARY, np.float32)
    # So few that text is likelier than all of them together.
    logits[FIRST:] = -10
    if favourite is not None:
        logits[favourite] = 20
    TranscriptRules(TOKENS, 2, timestamps)([7, 8, *written], logits)
    return set(np.nonzero(np.isfinite(logits))[0].tolist())


EVERYTHING = set(range(speech.VOCABULARY))
TIMES = set(range(FIRST, speech.VOCABULARY))
TEXT = EVERYTHING - TIMES - {1, 2, speech.NO_TIMESTAMPS}
LETTERS = {token for token in TEXT if token < speech.END}


def test_without_timestamps() -> None:
    assert _allowed([], timestamps=False) == EVERYTHING - {1, 2, 3, speech.END}
    assert _allowed([5], timestamps=False) == EVERYTHING - {1, 2}


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        ([], TIMES),
        # A segment has begun: text, or the end of it all.
        ([FIRST + 2], TEXT),
        # Text may go on or end, later than it began.
        ([FIRST + 2, 5], TEXT | {token for token in TIMES if token > FIRST + 2}),
        # It has ended: the next begins, then or later, or nothing follows.
        ([FIRST + 2, 5, FIRST + 4], TEXT - LETTERS | {token for token in TIMES if token >= FIRST + 4}),
        ([FIRST + 2, 5, FIRST + 4, FIRST + 4], TEXT),
        ([FIRST + 2, 5, FIRST + 4, FIRST + 4, 5], TEXT | {token for token in TIMES if token > FIRST + 4}),
        # At the latest time no other is left.
        ([FIRST, 5, FIRST + speech.PLACES], TEXT - LETTERS | {FIRST + speech.PLACES}),
    ],
)
def test_timestamps(written: list[int], allowed: set[int]) -> None:
    assert _allowed(written) == allowed


def test_a_likely_time_is_taken() -> None:
    assert _allowed([FIRST, 5], favourite=FIRST + 3) == TIMES - {FIRST}
    # None of them alone, but all together.
    logits = np.zeros(speech.VOCABULARY, np.float32)
    TranscriptRules(TOKENS, 0, True)([FIRST, 5], logits)
    assert np.isinf(logits[:FIRST]).all()


def test_it_begins_within_a_second() -> None:
    tokens = SpeechTokens.find(VOCABULARY, size=speech.VOCABULARY, multilingual=True)
    logits = np.zeros(FIRST + 1501, np.float32)
    TranscriptRules(tokens, 1, True)([speech.START], logits)
    assert np.nonzero(np.isfinite(logits))[0].tolist() == list(range(FIRST, FIRST + 51))


@pytest.mark.parametrize(
    ("tokens", "pieces", "steps"),
    [
        ([], [], None),
        ([5, 6], [[5, 6]], None),
        ([100, 5], [[100, 5]], None),
        ([100, 5, 110], [[100, 5, 110]], None),
        ([100, 5, 110, 110], [[100, 5, 110]], 10),
        ([100, 5, 110, 112, 6], [[100, 5, 110]], 10),
        ([100, 5, 110, 112, 6, 120], [[100, 5, 110], [112, 6, 120]], None),
        ([100, 5, 110, 112, 6, 120, 120], [[100, 5, 110], [112, 6, 120]], 20),
        ([100, 100, 5], [[100]], 1),
    ],
)
def test_cuts(tokens: list[int], pieces: list[list[int]], steps: int | None) -> None:
    assert cut(tokens, 100) == (pieces, steps)
