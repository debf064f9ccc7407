"""Nobody times garbage: every way of every engine must give the same result before it is timed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.benchmark.engines.engine import Call

__all__ = ["Disagreement", "check", "least_cosine", "relative_error", "tolerance"]

# Of the norm of the result; how accurate attnlib is, its tests say. float32: some hundred times its eps, for
# sums in any order and peers' approximations. bfloat16 rounds by 2**-9 at each of several stages (scores,
# weights, the result). int8: weights and activations are each rounded in steps of 8 / 255 of their spread or
# so, 1 % of it in the root of the mean square, peers with one scale for a whole array coarser. int4: in
# steps of a 15th of the range of a group, 6 standard deviations.
_TOLERANCE = {"float32": 5e-5, "bfloat16": 0.02, "int8": 0.05, "int4": 0.25}
# Through the layers of a model errors add up, and an outlier widens the steps of everything beside it: ONNX
# Runtime's dynamic int8 comes to 0.23 (a cosine of 0.973) for all-MiniLM-L6-v2.
_MODEL_TOLERANCE = {"float32": 5e-5, "bfloat16": 0.05, "int8": 0.25, "int4": 0.5}
_MODELS = ("model", "encode", "speech_encoder", "prompt", "writing")


class Disagreement(Exception):
    """A result is not what the others' is."""


def tolerance(operation: str, precision: str) -> float:
    """Return how far a result may be off, as a share of its norm."""
    return (_MODEL_TOLERANCE if operation in _MODELS else _TOLERANCE)[precision]


def check(call: Call, expected: NDArray[Any], limit: float) -> NDArray[Any]:
    """Compare what a call computes with what is expected, and return it.

    Raises
    ------
    Disagreement
        If the result has another shape, a NaN, or differs by more than `limit` of the norm.
    """
    found = call.array(call.run())
    if found.shape != expected.shape:
        raise Disagreement(f"shape {found.shape} instead of {expected.shape}")
    error = relative_error(found, expected)
    if not error <= limit:
        raise Disagreement(f"differs by {error:.1e} of the norm, more than {limit:.0e}")
    return found


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the norm of the difference, relative to the norm of what is expected."""
    difference = np.subtract(found, expected, dtype=np.float32)
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


def least_cosine(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the smallest cosine of the angles between corresponding rows."""
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float((np.einsum("...d,...d->...", found, expected) / lengths).min())
