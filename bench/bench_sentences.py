"""Benchmarks of a real sentence encoder, from text to vectors."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from engines import NAMES
from workloads import SENTENCES, Workload


@pytest.mark.parametrize("engine", NAMES)
@pytest.mark.parametrize("workload", SENTENCES, ids=str)
def bench_sentences(compare: Callable[[Workload, str], None], workload: Workload, engine: str) -> None:
    compare(workload, engine)
