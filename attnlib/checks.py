"""Checks of numbers among the arguments of functions in Python."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

__all__ = ["check_integer", "check_number"]

_LARGEST = sys.float_info.max


def check_integer(caller: str, name: str, value: object, low: int | None = None) -> int:
    """Return an integer of at least `low`, or raise a TypeError or ValueError that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{caller}: {name} must be an integer, got {type(value).__name__}")
    if low is not None and value < low:
        raise ValueError(f"{caller}: {name} must be at least {low}, got {value}")
    return int(value)


def check_number(caller: str, name: str, value: object, low: float, high: float = _LARGEST) -> float:
    """Return a finite number from `low` to `high`, or raise an error likewise."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{caller}: {name} must be a number, got {type(value).__name__}")
    # The limits may be beyond the range of NumPy's type.
    number: Any = value.item() if isinstance(value, np.generic) else value
    if not low <= number <= high:
        wanted = f"at least {low:g}" if high == _LARGEST else f"from {low:g} to {high:g}"
        raise ValueError(f"{caller}: {name} must be {wanted}, got {value}")
    return float(number)
