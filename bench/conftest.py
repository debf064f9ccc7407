"""What all benchmarks share: a workload, an engine, and its fastest way under pytest-benchmark."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from threads import limit_threads

THREADS = int(os.environ.get("ATTNLIB_BENCH_THREADS", "1"))
limit_threads(THREADS)  # before anything loads NumPy

from agreement import check, fastest  # noqa: E402
from engines import Unavailable, load  # noqa: E402

if TYPE_CHECKING:
    from engines.engine import Engine
    from numpy.typing import NDArray
    from workloads import Workload

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


@pytest.fixture(scope="session")
def expected() -> dict[str, NDArray[Any]]:
    """The result of each workload, as the engine that came first found it."""
    return {}


@pytest.fixture
def compare(benchmark: Any, engine_of: Callable[[str], Engine], expected: dict[str, NDArray[Any]]) -> Compare:
    """Time a workload by an engine, in the group of that workload."""

    def run(workload: Workload, name: str) -> None:
        engine = engine_of(name)
        try:
            inputs = workload.inputs()
        except FileNotFoundError as missing:
            pytest.skip(str(missing))
        calls = engine.calls(workload.operation, inputs)
        if not calls:
            pytest.skip(f"{name} has no {workload.operation}")
        expected[workload.name] = check(name, calls, expected.get(workload.name))
        call = fastest(calls)
        benchmark.group = workload.name
        benchmark.extra_info.update(way=call.way, version=engine.version, threads=THREADS)
        time.sleep(_REST)
        benchmark(call.run)

    return run
