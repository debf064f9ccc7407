"""Python programs in processes of their own: what acts at import, at exit or on a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

Finished = subprocess.CompletedProcess[str]
RunPython = Callable[..., Finished]  # the fixture `run_python`


def run_python(
    code: str,
    *,
    folder: Path,
    env: Mapping[str, str | None] | None = None,
    check: bool = True,
    timeout: float = 300.0,
) -> Finished:
    """Run `code` in `folder`, away from the source tree, with environment variables set or (None) removed.

    Unless `check` is false, a program that fails is an AssertionError that shows what it printed.
    """
    environment = {**os.environ, **(env or {})}
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=folder,
        env={name: value for name, value in environment.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or result.returncode == 0, f"exit {result.returncode}\n{result.stdout}\n{result.stderr}"
    return result
