"""Benchmarks of attention, of whole batches, ragged ones and in parts."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engines import NAMES
from workloads import ATTENTION, Workload


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("workload", ATTENTION, ids=str)
def bench_attention(compare: Callable[[Workload, str], None], workload: Workload, engine: str) -> None:
    compare(workload, engine)
