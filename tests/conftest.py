"""Shared fixtures and the hypothesis profiles of the operation tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

# The oracle's products are small: NumPy's own threads would only spin against those under test. Set before
# NumPy is imported, and inherited by the processes that the tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

# tests/ holds plain modules (oracle, arrays, ...) that the test files import, however pytest was started.
sys.path.insert(0, str(Path(__file__).parent))

from arrays import FULL

RunPython = Callable[..., "subprocess.CompletedProcess[str]"]

# The examples are the same in each run: a failure reproduces, and a green run stays green.
_common = {
    "derandomize": True,
    "deadline": None,
    "print_blob": False,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("short", max_examples=60, **_common)  # type: ignore[arg-type]
settings.register_profile("full", max_examples=1000, **_common)  # type: ignore[arg-type]
settings.load_profile("full" if FULL else "short")


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's own name: independent of order and selection."""
    return np.random.default_rng(zlib.crc32(request.node.name.encode()))


@pytest.fixture
def run_python(tmp_path: Path) -> RunPython:
    """Run a Python program in a process of its own, away from the source tree; assert that it succeeds."""

    def run(
        code: str, *, env: dict[str, str | None] | None = None, check: bool = True, timeout: float = 300.0
    ):  # type: ignore[no-untyped-def]
        environment = dict(os.environ)
        for name, value in (env or {}).items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = value
        result = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert result.returncode == 0, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result

    return run
