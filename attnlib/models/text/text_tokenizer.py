"""Texts to tokens and back for language models, with special tokens and chat templates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnlib.models.extras import require
from attnlib.models.files.config import Fields, JsonFile
from attnlib.models.text.chat_template import read_chat_template, render_chat
from attnlib.models.text.library_errors import library_errors
from attnlib.models.text.sentencepiece_bpe import sentencepiece_bpe
from attnlib.models.text.text_stream import TextStream
from attnlib.models.text.token_pieces import token_pieces

__all__ = ["TextTokenizer", "folder_tokenizer", "gguf_tokenizer"]

# How a text is cut into words before byte pairs are merged, by the name in tokenizer.ggml.pre.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {
    "gpt-2": None,
    "default": None,
    "smollm": None,
    "llama-bpe": _LLAMA3.replace("{DIGITS}", "{1,3}"),
    "qwen2": _LLAMA3.replace("{DIGITS}", ""),
}
_CONTROL, _USER_DEFINED = 3, 4

# In a tokenizer_config.json these are tokens. Other fields with such names may be: not add_bos_token.
_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")

# What ends a text in a GGUF header: it itself, a turn of a conversation, a message in a turn.
_ENDS = ("eos", "eot", "eom")


class TextTokenizer:
    """A tokenizer and what a language model's files say beside it.

    Parameters
    ----------
    tokenizer
        Of the library ``tokenizers``.
    end_ids
        Tokens that end a text.
    chat_template
        A Jinja template, if there is one.
    special
        Names of special tokens for the template, such as ``bos_token``.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        end_ids: Sequence[int] = (),
        chat_template: str | None = None,
        special: Mapping[str, str] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.end_ids = tuple(end_ids)
        self._chat_template = chat_template
        self._special = dict(special or {})
        self._special_tokens: frozenset[str] | None = None

    def encode(self, text: str, *, special: bool = True) -> list[int]:
        """Turn a text into tokens; names of special tokens in it become these tokens.

        Parameters
        ----------
        text
            Unicode.
        special
            Whether to add what the model wants at the beginning. Default True.

        Raises
        ------
        TypeError, ValueError
            If the text is no str or not valid Unicode, or the tokenizer lacks what it needs for it.
        """
        if not isinstance(text, str):
            raise TypeError(f"encode: text must be a str, got {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"encode: a text is not valid Unicode: {error}") from None
        return self._cut(text, special)

    def _cut(self, text: str, special: bool) -> list[int]:
        """Turn valid Unicode into tokens."""
        with library_errors("encode: the tokenizer failed"):
            ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Turn tokens into a text, without special ones.

        Raises
        ------
        TypeError, ValueError
            If `ids` are no numbers of tokens.
        """
        numbers = _numbers("decode", ids)
        with library_errors("decode: the tokenizer failed"):
            text: str = self._tokenizer.decode(numbers, skip_special_tokens=True)
        return text

    def vocabulary(self) -> dict[str, int]:
        """Return the number of each token, special ones included."""
        found: dict[str, int] = self._tokenizer.get_vocab(with_added_tokens=True)
        return found

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token by itself, special ones by their names, as `token_pieces` does."""
        return token_pieces(self._tokenizer, _numbers("pieces", ids))

    def source_pieces(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token of a source, which may have a vocabulary of its own."""
        return self.pieces(ids)

    def stream(self) -> TextStream:
        """Begin a text to which tokens are added one at a time."""
        if self._special_tokens is None:
            added = self._tokenizer.get_added_tokens_decoder().values()
            self._special_tokens = frozenset(token.content for token in added if token.special)
        return TextStream(self._tokenizer, self._special_tokens)

    def chat(self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True) -> str:
        """Write a conversation as the model was trained on.

        Parameters
        ----------
        messages
            Each with ``role`` (``"system"``, ``"user"`` or ``"assistant"``) and ``content``.
        add_generation_prompt
            Whether to begin the assistant's answer. Default True.

        Raises
        ------
        ValueError
            If the model has no chat template, or the template refuses the messages.
        ImportError
            If jinja2 is not installed.
        """
        if self._chat_template is None:
            raise ValueError("chat: the model has no chat template")
        return render_chat(
            self._chat_template,
            messages,
            add_generation_prompt=add_generation_prompt,
            special=self._special,
        )

    def encode_chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Turn a conversation into tokens that an answer follows; parameters and errors are those of `chat`.

        The template writes its special tokens itself, so none is added at the beginning.
        """
        return self.encode(self.chat(messages), special=False)


def _numbers(caller: str, ids: Sequence[int]) -> list[int]:
    """Return token numbers that the library takes, or raise an error that shows what is wrong with them."""
    if isinstance(ids, (str, bytes, bytearray)) or not isinstance(ids, Iterable):
        raise TypeError(f"{caller}: ids must be a sequence of integers, got {type(ids).__name__}")
    numbers = list(ids)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, (int, np.integer)):
            raise TypeError(f"{caller}: ids must be integers, found {number!r:.60}")
        if not 0 <= number < 1 << 32:
            raise ValueError(f"{caller}: ids holds {number}, which is no token")
    return numbers


def folder_tokenizer(folder: Path, config: Fields) -> TextTokenizer | None:
    """Read ``tokenizer.json`` and what stands beside it; None if the folder has none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    tokenizers = require("tokenizers")
    with library_errors(f"{path}: not a tokenizer"):
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    # What is left from training.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    template: str | None = None
    special: dict[str, str] = {}
    if (folder / "tokenizer_config.json").is_file():
        file = JsonFile(folder / "tokenizer_config.json")
        template = read_chat_template(file)
        special = _named_tokens(file)
        _mark_special(tokenizer, special.values())
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        try:
            template = jinja.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"{jinja}: not valid UTF-8: {error}") from None
    return TextTokenizer(tokenizer, end_ids=end_ids(folder, config), chat_template=template, special=special)


def _named_tokens(file: Fields) -> dict[str, str]:
    """Return the tokens that a ``tokenizer_config.json`` gives a name, such as ``eos_token``."""
    found = {}
    for name in file:
        if name.endswith("_token"):
            token = file.get(name)
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str):
                if any("\ud800" <= letter <= "\udfff" for letter in text):
                    raise file.error(name, f"holds lone surrogates, which are no text: {text!r:.60}")
                found[name] = text
            elif name in _NAMES:
                raise file.error(name, f"must be a string, or an object with content, found {token!r:.60}")
    return found


def _mark_special(tokenizer: Any, texts: Iterable[str]) -> None:
    """Mark tokens special that the tokenizer has, so that they are cut whole and left out of texts."""
    known = {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
    make = require("tokenizers").AddedToken
    # A new one would have a number that the model may not have.
    present = [text for text in texts if tokenizer.token_to_id(text) is not None]
    tokens = [known.get(text, make(text, normalized=False)) for text in present]
    for token in tokens:
        token.special = True
    tokenizer.add_special_tokens(tokens)


def end_ids(folder: Path, config: Fields) -> tuple[int, ...]:
    """Find the tokens that end a text, in ``generation_config.json`` or else in ``config.json``."""
    path = folder / "generation_config.json"
    file: Fields = JsonFile(path) if path.is_file() else config
    if "eos_token_id" not in file:
        file = config
    found = file.get("eos_token_id", [])
    ids = found if isinstance(found, list) else [found]
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in ids):
        raise file.error("eos_token_id", f"must be an integer or a list of them, found {found!r}")
    return tuple(ids)


def gguf_tokenizer(fields: Fields) -> TextTokenizer:
    """Build the tokenizer that stands in the header of a GGUF file: byte-level BPE or SentencePiece's."""
    tokenizers = require("tokenizers")
    byte_level = fields.choice("tokenizer.ggml.model", {"gpt2": True, "llama": False})
    tokens = _texts(fields, "tokenizer.ggml.tokens")
    kinds = fields.get("tokenizer.ggml.token_type", [1] * len(tokens))
    if not isinstance(kinds, list) or len(kinds) != len(tokens):
        raise fields.error("tokenizer.ggml.token_type", f"must hold {len(tokens)} integers")
    tokenizer = _byte_level_bpe(fields, tokens) if byte_level else sentencepiece_bpe(fields, tokens, kinds)
    for kind, special in ((_CONTROL, True), (_USER_DEFINED, False)):
        tokenizer.add_tokens(
            [
                tokenizers.AddedToken(token, special=special, normalized=False)
                for token, found in zip(tokens, kinds, strict=True)
                if found == kind and token
            ]
        )
    names = {}
    for name in ("bos", *_ENDS):
        if f"tokenizer.ggml.{name}_token_id" in fields:
            number = fields.integer(f"tokenizer.ggml.{name}_token_id", 0, len(tokens) - 1)
            names[name] = number, tokens[number]
    # As in llama.cpp, where the header says nothing.
    begins = not byte_level or fields.get("tokenizer.ggml.pre", "default") == "llama-bpe"
    if "bos" in names and fields.boolean("tokenizer.ggml.add_bos_token", begins):
        token = names["bos"][1]
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
            single=[token, "$A"], special_tokens=[(token, names["bos"][0])]
        )
    template = None
    if "tokenizer.chat_template" in fields:
        template = fields.text("tokenizer.chat_template")
    return TextTokenizer(
        tokenizer,
        end_ids=list(dict.fromkeys(names[name][0] for name in _ENDS if name in names)),
        chat_template=template,
        special={f"{name}_token": names[name][1] for name in ("bos", "eos") if name in names},
    )


def _byte_level_bpe(fields: Fields, tokens: list[str]) -> Any:
    tokenizers = require("tokenizers")
    split = fields.choice("tokenizer.ggml.pre", _SPLITS, default="default")
    pairs = [tuple(merge.split(" ", 1)) for merge in _texts(fields, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    with library_errors(f"{fields.path}: tokenizer.ggml.merges do not fit the tokens"):
        model = tokenizers.models.BPE(
            vocabulary, pairs, ignore_merges=fields.get("tokenizer.ggml.pre", "default") == "llama-bpe"
        )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = _pre_tokenizer(tokenizers, fields, split)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def _pre_tokenizer(tokenizers: Any, fields: Fields, split: str | None) -> Any:
    kinds = tokenizers.pre_tokenizers
    if split is not None:
        return kinds.Sequence(
            [
                kinds.Split(tokenizers.Regex(split), "isolated"),
                kinds.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    byte_level = kinds.ByteLevel(add_prefix_space=False)
    if fields.get("tokenizer.ggml.pre", "default") == "smollm":
        return kinds.Sequence([kinds.Digits(individual_digits=True), byte_level])
    return byte_level


def _texts(fields: Fields, name: str) -> list[str]:
    value = fields.get(name)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise fields.error(name, "must be a list of texts")
    return value
