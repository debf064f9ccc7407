"""Tokenizers of folders: special tokens, and input that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import models
from attnlib.models.text.text_tokenizer import TextTokenizer

from . import decoders

tokenizers = pytest.importorskip("tokenizers")


def load(folder: Path, *, added: dict[str, bool], named: dict[str, Any]) -> TextTokenizer:
    """The byte tokenizer with more tokens, special in tokenizer.json or not, and a tokenizer_config.json."""
    decoders.write_folder(folder)
    tokenizer = decoders.byte_tokenizer()
    tokenizer.add_tokens(
        [
            tokenizers.AddedToken(text, special=special, normalized=False, lstrip=text == "<l>")
            for text, special in added.items()
        ]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(named))
    model = models.load(folder)
    assert isinstance(model, models.LanguageModel)
    assert model.tokenizer is not None
    return model.tokenizer


def test_named_tokens_are_special(tmp_path: Path) -> None:
    """Also those that tokenizer.json says nothing of, or the contrary; what it says beside that stays."""
    tokenizer = load(
        tmp_path / "model",
        added={"<stop>": False, "<l>": False, "<other>": False},
        named={"eos_token": "<stop>", "pad_token": {"content": "<l>"}, "sep_token": "~", "cls_token": "<no>"},
    )
    ids = tokenizer.encode("a<stop>b  <l>c~<other><no>")
    assert tokenizer.decode(ids) == "abc<other><no>"
    assert tokenizer.vocabulary().keys() == {*decoders.ALPHABET, "<end>", "<stop>", "<l>", "<other>"}
    stream = tokenizer.stream()
    assert "".join(stream.push(token) for token in ids) + stream.rest() == tokenizer.decode(ids)


@pytest.mark.parametrize("text", [b"a", 5, None, ["a"]])
def test_texts_that_are_none(text: Any, tmp_path: Path) -> None:
    tokenizer = load(tmp_path / "model", added={}, named={})
    with pytest.raises(TypeError, match=rf"^encode: text must be a str, got {type(text).__name__}$"):
        tokenizer.encode(text)


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([3, -1], ValueError, "ids holds -1, which is no token"),
        ([1 << 32], ValueError, "ids holds 4294967296, which is no token"),
        ([2.5], TypeError, "ids must be integers, found 2.5"),
        ([True], TypeError, "ids must be integers, found True"),
        (["a"], TypeError, "ids must be integers, found 'a'"),
        ("ab", TypeError, "ids must be a sequence of integers, got str"),
        (b"ab", TypeError, "ids must be a sequence of integers, got bytes"),
        (5, TypeError, "ids must be a sequence of integers, got int"),
    ],
)
def test_tokens_that_are_none(ids: Any, error: type[Exception], message: str, tmp_path: Path) -> None:
    tokenizer = load(tmp_path / "model", added={}, named={})
    for method in (tokenizer.decode, tokenizer.pieces):
        with pytest.raises(error, match=rf"^{method.__name__}: {message}$"):
            method(ids)
    assert tokenizer.decode(np.array(tokenizer.encode("ab"), np.int32)) == "ab"  # type: ignore[arg-type]
