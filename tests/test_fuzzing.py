"""A few random calls and mutated files of each kind, and the files that once did what they must not.

`python tools/fuzz.py` makes more of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("safetensors", reason="safetensors is not installed")
pytest.importorskip("tokenizers", reason="tokenizers is not installed")
pytest.importorskip("gguf", reason="gguf is not installed")
pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
pytest.importorskip("jinja2", reason="jinja2 is not installed")

from fuzzing.corpus_entries import corpus, repeat_entry
from fuzzing.hunt import hunt
from fuzzing.public_calls import unnamed_calls
from fuzzing.targets import TARGETS, make_target
from fuzzing.targets.reader import ReaderTarget

# Some milliseconds each; a file of weights somewhat more.
CASES = {"calls": 250, "layers": 150, "conversation": 60, "gguf": 40, "config": 60, "ctranslate2": 40}


@pytest.mark.parametrize("target", TARGETS)
def test_a_few_cases(target: str) -> None:
    result = hunt(target, seed=2026, cases=CASES.get(target, 100))
    assert not result.reports, "\n\n".join(f"{report.kind}\n{report.details}" for report in result.reports)
    assert result.cases == CASES.get(target, 100)


@pytest.mark.parametrize("target", [name for name in TARGETS if corpus(name)])
def test_what_once_failed(target: str, tmp_path: Path) -> None:
    reader = make_target(target)
    assert isinstance(reader, ReaderTarget)
    reader.start(tmp_path)
    for entry in corpus(target):
        repeat_entry(reader, entry)


def test_no_public_call_is_forgotten() -> None:
    assert not unnamed_calls()
