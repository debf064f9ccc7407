"""attnlib.cuda built with nvcc: no warning, no spill, tensor cores, and its tests (tools/check_cuda)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_cuda"
SKIPPED = 77


@pytest.mark.build
def test_machine_code() -> None:
    result = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True, check=False)
    if result.returncode == SKIPPED:
        pytest.skip("no nvcc here")
    assert result.returncode == 0, result.stdout + result.stderr
    if "NO MACHINE CODE" in result.stderr:
        pytest.skip("no cuobjdump here: all else is right, but only PTX was read")
