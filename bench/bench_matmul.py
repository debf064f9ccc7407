"""Benchmarks of matrix products, with weights packed where an engine can."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engines import NAMES
from workloads import MATMUL, Workload


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("workload", MATMUL, ids=str)
def bench_matmul(compare: Callable[[Workload, str], None], workload: Workload, engine: str) -> None:
    compare(workload, engine)
