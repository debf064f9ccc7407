"""What all benchmarks share: a workload, an engine, and its fastest way under pytest-benchmark."""

from __future__ import annotations

import os
import runpy
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

THREADS = int(os.environ.get("ATTNLIB_BENCH_THREADS", "1"))

# Before anything loads NumPy, which attnlib itself does: hence by the file, not by an import.
_package = find_spec("attnlib")
if _package is None or _package.origin is None:
    raise ImportError("attnlib is not installed")
runpy.run_path(str(Path(_package.origin).with_name("benchmark") / "threads.py"))["limit_threads"](THREADS)

from attnlib.benchmark.ceilings import Ceilings  # noqa: E402
from attnlib.benchmark.contest import Contest  # noqa: E402
from attnlib.benchmark.engines import Unavailable, load  # noqa: E402
from attnlib.benchmark.options import Options  # noqa: E402

if TYPE_CHECKING:
    from attnlib.benchmark.engines.engine import Engine
    from attnlib.benchmark.workload import Workload

# The spinning workers of the engine before go to sleep meanwhile.
_REST = 0.3

Compare = Callable[["Workload", str], None]


@pytest.fixture(scope="session")
def engine_of() -> Callable[[str], Engine]:
    """Load engines when first asked for; one that is not installed skips the test."""
    loaded: dict[str, Engine] = {}

    def get(name: str) -> Engine:
        if name not in loaded:
            try:
                loaded[name] = load(name, THREADS)
            except Unavailable as reason:
                pytest.skip(str(reason))
        return loaded[name]

    return get


@pytest.fixture
def compare(benchmark: Any, engine_of: Callable[[str], Engine]) -> Compare:
    """Time a workload by an engine, in the group of that workload."""

    def run(workload: Workload, name: str) -> None:
        contest = Contest({name: engine_of(name)}, Ceilings(THREADS), Options(threads=THREADS))
        try:
            found = contest.fastest(workload)
        except FileNotFoundError as missing:
            pytest.skip(str(missing))
        if found is None:
            pytest.skip(f"{name} has no {workload.name}")
        who, call = found
        benchmark.group = workload.name
        benchmark.extra_info.update(
            way=call.way, precision=who.precision, version=contest.engines[name].version, threads=THREADS
        )
        time.sleep(_REST)
        benchmark(call.run)

    return run
