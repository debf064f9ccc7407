"""Tokenizers of folders: special tokens, and input that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
