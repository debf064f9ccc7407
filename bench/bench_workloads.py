"""The workloads of ``attnlib bench`` under pytest-benchmark: handy while one kernel changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from attnlib.benchmark.engines import NAMES
from attnlib.benchmark.workload import Workload
from attnlib.benchmark.workloads import EVERYTHING


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("workload", EVERYTHING, ids=str)
def bench_workload(compare: Callable[[Workload, str], None], workload: Workload, engine: str) -> None:
    compare(workload, engine)
