"""How a checkpoint wants its model to be used, as far as the caller says nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attnlib.models.files.config import Fields, JsonFile
from attnlib.models.generation.sampling import LEAST_PENALTY, MOST_PENALTY
from attnlib.models.generation.token_rules import TokenRules

__all__ = ["LENGTH_PENALTIES", "GenerationSettings", "read_settings"]

# A length of at most 2^24 to this power does not overflow.
LENGTH_PENALTIES = -32.0, 32.0

# Fields that change what is generated and are not known here, with the values that change nothing.
_REFUSED: dict[str, tuple[Any, ...]] = {
    "constraints": (),
    "diversity_penalty": (0, 0.0),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1, 1.0),
    "exponential_decay_length_penalty": (),
    "force_words_ids": (),
    "forced_decoder_ids": ([],),
    "guidance_scale": (1, 1.0),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "penalty_alpha": (0, 0.0),
    "remove_invalid_values": (False,),
    "sequence_bias": (),
    "stop_strings": ([],),
    "watermarking_config": (),
}


@dataclass(frozen=True)
class GenerationSettings:
    """Defaults of `generate`, and rules that always hold.

    Parameters
    ----------
    start_id
        The token that a target begins with; of no use to a decoder-only model.
    end_ids
        Tokens that end a sequence.
    max_new_tokens, repetition_penalty, num_beams, length_penalty
        As in `generate`.
    early_stopping
        Beam search ends as soon as there are `num_beams` continuations that have ended.
    renormalize_logits
        Beam search counts probabilities among the tokens that `rules` leave.
    rules
        Tokens that are forbidden or demanded.
    """

    start_id: int = 0
    end_ids: tuple[int, ...] = ()
    max_new_tokens: int = 128
    repetition_penalty: float = 1.0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: bool = False
    renormalize_logits: bool = False
    rules: TokenRules = field(default_factory=TokenRules)


def read_settings(folder: Path, config: Fields, vocab_size: int) -> GenerationSettings:
    """Read what an encoder-decoder's ``generation_config.json`` says, or else its ``config.json``.

    Whether to draw tokens, and how, is the caller's choice: ``do_sample``, ``temperature``, ``top_k``,
    ``top_p`` and the like are not read.

    Raises
    ------
    ValueError
        If a field is malformed, or asks for what is not supported.
    """
    path = folder / "generation_config.json"
    file = JsonFile(path) if path.is_file() else config
    for name, harmless in _REFUSED.items():
        if name in file and file.get(name) not in harmless:
            raise file.error(name, f"is {file.get(name)!r}, which is not supported")
    ends = _tokens(file if "eos_token_id" in file else config, "eos_token_id", vocab_size)
    starting = next(
        (
            (source, name)
            for name in ("decoder_start_token_id", "bos_token_id")
            for source in (file, config)
            if name in source
        ),
        (file, "decoder_start_token_id"),
    )
    start = starting[0].integer(starting[1], 0, vocab_size - 1)
    if "max_new_tokens" in file:
        longest = file.integer("max_new_tokens", 1, 1 << 24)
    else:
        longest = file.integer("max_length", 2, 1 << 24, default=129) - 1
    first = _tokens(file, "forced_bos_token_id", vocab_size)
    if len(first) > 1:
        raise file.error("forced_bos_token_id", "must be one token")
    return GenerationSettings(
        start_id=start,
        end_ids=ends,
        max_new_tokens=longest,
        repetition_penalty=file.number("repetition_penalty", LEAST_PENALTY, MOST_PENALTY, default=1.0),
        num_beams=file.integer("num_beams", 1, 1 << 10, default=1),
        length_penalty=file.number("length_penalty", *LENGTH_PENALTIES, default=1.0),
        early_stopping=file.boolean("early_stopping", False),
        renormalize_logits=file.boolean("renormalize_logits", False),
        rules=TokenRules(
            never=(*_bad_words(file, ends, vocab_size), *_tokens(file, "suppress_tokens", vocab_size)),
            never_first=_tokens(file, "begin_suppress_tokens", vocab_size),
            first=first[0] if first else None,
            last=_tokens(file, "forced_eos_token_id", vocab_size),
            end_ids=ends,
            min_length=file.integer("min_length", 0, 1 << 24, default=0),
            min_new_tokens=file.integer("min_new_tokens", 0, 1 << 24, default=0),
        ),
    )


def _tokens(file: Fields, name: str, vocab_size: int) -> tuple[int, ...]:
    """Return a field that holds a token, a list of them, or nothing."""
    value = file.get(name, [])
    ids = value if isinstance(value, list) else [value]
    for number in ids:
        if isinstance(number, bool) or not isinstance(number, int):
            raise file.error(name, f"must be an integer or a list of them, found {value!r}")
        if not 0 <= number < vocab_size:
            raise file.error(name, f"holds {number}, but there are {vocab_size} tokens")
    return tuple(ids)


def _bad_words(file: Fields, ends: tuple[int, ...], vocab_size: int) -> tuple[int, ...]:
    """Return the tokens of ``bad_words_ids``, which are forbidden wherever they stand; no end is."""
    words = file.get("bad_words_ids", [])
    if not isinstance(words, list) or not all(isinstance(word, list) and word for word in words):
        raise file.error("bad_words_ids", "must be a list of lists of tokens")
    if any(len(word) > 1 for word in words):
        raise file.error("bad_words_ids", "holds a word of several tokens, which is not supported")
    only = Fields(file.path, {"bad_words_ids": [word[0] for word in words]})
    return tuple(token for token in _tokens(only, "bad_words_ids", vocab_size) if token not in ends)
