"""Bulk embedding on worker processes that are killed: examples/bulk_embedding.py."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from models import folders

TOOLS = Path(__file__).parent.parent / "tools"
EXAMPLE = Path(__file__).parent.parent / "examples" / "bulk_embedding.py"

if importlib.util.find_spec("distributed") is None:
    pytest.skip("needs dask and distributed: pip install 'attnlib[test]'", allow_module_level=True)


def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_bulk_embedding", TOOLS / "check_bulk_embedding.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    """Both workers are killed, and the bits are those of one process with other batches."""
    model = folders.make(tmp_path / "model").write()
    texts = [" ".join(folders.WORDS[4 + i * j % 9] for j in range(i % 18)) for i in range(2000)]
    figures = tool().check(model, texts, tmp_path, dtype="float32", batch_size=10)
    assert figures["texts"] == figures["vectors"] == 2000

    # The same command once more has nothing to compute: a shard that is there is not made again.
    vectors, shards = tmp_path / "vectors" / "vectors.npy", tmp_path / "vectors" / "shards"
    before, made = vectors.read_bytes(), {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    command = [sys.executable, str(EXAMPLE), str(tmp_path / "texts.jsonl"), str(tmp_path / "vectors")]
    command += ["--model", str(model), "--batch-size", "10", "--workers", "1", "--threads", "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == made
    assert vectors.read_bytes() == before

    # A shard of other texts is not taken for one of these.
    (shards / "000200-0123456789abcdef.npy").write_bytes(b"")
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode != 0
    assert "1 shards are of other texts" in refused.stderr
