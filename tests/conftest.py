"""Shared fixtures and the hypothesis profiles of the operation tests."""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

# The oracle's products are small: NumPy's own threads would only spin against those under test. Set before
# NumPy is imported, and inherited by the processes that the tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# tests/ holds plain modules (oracle, arrays, ...) that the test files import, however pytest was started.
sys.path.insert(0, str(Path(__file__).parent))

import processes
from arrays import FULL
from native_build import NativeBuilds

import attnlib

# The examples are the same in each run: a failure reproduces, and a green run stays green.
_common = {
    "derandomize": True,
    "deadline": None,
    "print_blob": False,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("short", max_examples=200, **_common)  # type: ignore[arg-type]
settings.register_profile("full", max_examples=2000, **_common)  # type: ignore[arg-type]
settings.load_profile("full" if FULL else "short")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: independent of order and selection."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Commands that a test runs in this process may set the number of threads: it ends with the test."""
    with attnlib.num_threads(attnlib.get_num_threads()):
        yield


@pytest.fixture
def run_python(tmp_path: Path) -> processes.RunPython:
    """Run a Python program in a process of its own: `processes.run_python` in a folder of its own."""
    return functools.partial(processes.run_python, folder=tmp_path)


@pytest.fixture(scope="session")
def native_builds(tmp_path_factory: pytest.TempPathFactory) -> NativeBuilds:
    """What the tests marked `build` compile, once for all of them."""
    return NativeBuilds(tmp_path_factory.mktemp("native"))
