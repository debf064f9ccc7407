"""Benchmarks of whole encoder layers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engines import NAMES
from workloads import ENCODER, Workload


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("workload", ENCODER, ids=str)
def bench_encoder(compare: Callable[[Workload, str], None], workload: Workload, engine: str) -> None:
    compare(workload, engine)
