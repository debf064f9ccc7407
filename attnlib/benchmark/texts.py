"""Texts and a model for the sentence workloads, both from what is on the machine."""

from __future__ import annotations

import ast
import os
import random
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attnlib.models.extras import require

__all__ = ["language_model_file", "model_folder", "models_folder", "sentences", "token_rows", "use_model"]

_VARIABLE = "ATTNLIB_TEST_MODELS"
_MODEL = "all-MiniLM-L6-v2"
_LANGUAGE_MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"

# Texts that are tokenised for `token_rows`: some thousand tokens.
_TOKEN_TEXTS = 500


def use_model(folder: Path) -> None:
    """Have `model_folder` find this one."""
    os.environ[_VARIABLE] = str(folder.resolve())


def models_folder() -> Path:
    """Return where models are: what ``ATTNLIB_TEST_MODELS`` names, or the cache of the tests."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnlib-test-models"
    return Path(os.environ.get(_VARIABLE) or default)


def model_folder() -> Path:
    """Find the sentence encoder.

    It is the folder that `use_model` or the variable ``ATTNLIB_TEST_MODELS`` names, or all-MiniLM-L6-v2
    within it; by default in the cache that the tests marked ``real_model`` fill.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    cache = models_folder()
    for folder in (cache, cache / _MODEL):
        if (folder / "config.json").is_file():
            return folder
    raise FileNotFoundError(f"no model in {cache}: --model or {_VARIABLE} names it")


def language_model_file() -> Path:
    """Find SmolLM2-135M with weights of 4 bits, where the tests marked ``real_model`` put it.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    """
    file = models_folder() / _LANGUAGE_MODEL
    if not file.is_file():
        raise FileNotFoundError(f"no {file.name} in {file.parent}: pytest -m real_model fetches it")
    return file


def sentences(count: int) -> list[str]:
    """Return real sentences of mixed lengths: from docstrings of the standard library, the same in each run.

    Four of five are single sentences, the rest whole paragraphs, of which some are longer than a model reads.
    """
    paragraphs: dict[str, None] = {}  # in order, each once
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        for docstring in _docstrings(path):
            paragraphs.update((" ".join(part.split()), None) for part in re.split(r"\n\s*\n", docstring))
    long = [text for text in paragraphs if len(text) > 200]
    single = [part for text in paragraphs for part in re.split(r"(?<=[.!?]) ", text) if len(part) > 20]
    single = list(dict.fromkeys(single))
    chooser = random.Random(0)
    whole = count // 5
    texts = chooser.sample(long, whole) + chooser.sample(single, count - whole)
    chooser.shuffle(texts)
    return texts


def token_rows(folder: Path, rows: int, length: int) -> NDArray[np.int64]:
    """Return real sentences as rows of tokens of equal number, between a model's first and last token.

    Random words would do for the time, but not for the accuracy of int8, to which they are harder.
    """
    tokenizer = require("tokenizers").Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    first, last = tokenizer.encode("").ids
    texts = tokenizer.encode_batch(sentences(_TOKEN_TEXTS), add_special_tokens=False)
    tokens = np.array([token for text in texts for token in text.ids], np.int64)
    result = np.resize(tokens, (rows, length))
    result[:, 0], result[:, -1] = first, last
    return result


def _docstrings(path: Path) -> list[str]:
    try:
        source = path.read_bytes()
    except OSError:  # Debian's sitecustomize.py, for one, is a link that may lead nowhere
        return []
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [docstring for node in nodes if (docstring := ast.get_docstring(node))]
