"""Made-up workloads and timings for the tests of the benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnlib.benchmark.engines import OURS
from attnlib.benchmark.measure import Block, Timing
from attnlib.benchmark.options import Options
from attnlib.benchmark.result import Contestant
from attnlib.benchmark.workload import Workload

QUICK = Options(quick=True)
OUR_FLOAT32 = Contestant(OURS, "float32")


def timing(*medians: float) -> Timing:
    return Timing(tuple(Block(m, 0.9 * m, 1.2 * m, 5, 0.0) for m in medians))


def made_up(case: str = "made up", **fields: Any) -> Workload:
    """A workload of two sums, which needs 100 operations."""
    values: dict[str, Any] = {
        "precision": "float32",
        "family": "made up",
        "operation": "sums",
        "make": lambda rng: (rng.standard_normal((2, 8), dtype=np.float32),),
        "ceiling": "float32",
        "amount": 100.0,
        **fields,
    }
    return Workload(case, **values)
