"""What is measured: each workload makes its own arrays, the same ones for every engine.

Letters: B batch, H heads, G key/value heads, S tokens (Sk: keys), D head size, M rows of a product.
"""

from __future__ import annotations

from attnlib.benchmark.workload import Workload
from attnlib.benchmark.workloads.attention import ATTENTION, CURVES, DECODING, EXTRAS
from attnlib.benchmark.workloads.before_attention import CONVOLUTION, RECURRENT
from attnlib.benchmark.workloads.encoders import ENCODER, ENCODING, MODEL
from attnlib.benchmark.workloads.generation import GENERATION
from attnlib.benchmark.workloads.products import LINEAR, MATMUL
from attnlib.benchmark.workloads.rows import MORE_ROWS, ROWS
from attnlib.benchmark.workloads.speech import SPEECH

__all__ = ["EVERYTHING", "GEOMETRIC_MEANS", "LEAST_RATIO", "TABLE", "chosen"]

# What a run goes through when nothing else is asked for, in its order.
TABLE: list[Workload] = [
    *ATTENTION,
    *DECODING,
    *LINEAR,
    *MATMUL,
    *ROWS,
    *ENCODER,
    *MODEL,
    *ENCODING,
    *RECURRENT,
    *GENERATION,
    *SPEECH,
    *CURVES,
]
EVERYTHING: list[Workload] = [*TABLE, *EXTRAS, *MORE_ROWS, *CONVOLUTION]

# The least that the ratio to the best peer may be on any workload of the table, and in the geometric mean
# over all of it (None) and over a family.
LEAST_RATIO = 0.97
GEOMETRIC_MEANS: dict[str | None, float] = {None: 1.4, "attention float32": 1.3}


def chosen(words: tuple[str, ...]) -> list[Workload]:
    """Return the workloads whose names contain one of the words; the table if there are none."""
    return [w for w in EVERYTHING if any(word in w.name for word in words)] if words else list(TABLE)
