"""Benchmarks of softmax, norms, activations and rotary embedding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engines import NAMES
from workloads import ROWS, Workload


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("workload", ROWS, ids=str)
def bench_rows(compare: Callable[[Workload, str], None], workload: Workload, engine: str) -> None:
    compare(workload, engine)
