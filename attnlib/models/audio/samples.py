"""The check of samples that resampling and the front end are given."""

from __future__ import annotations

import numpy as np

from attnlib.arrays import as_array

__all__ = ["check_samples"]


def check_samples(caller: str, samples: object) -> None:
    """Raise a TypeError or ValueError unless `samples` is an array of floats with one axis."""
    if not isinstance(samples, np.ndarray):
        raise TypeError(f"{caller}: samples must be an array of float32, got {type(samples).__name__}")
    as_array(f"{caller}: samples", samples)  # refuses a mask
    if samples.dtype.kind != "f":
        raise TypeError(f"{caller}: samples must be float32, got {samples.dtype}")
    if samples.ndim != 1:
        raise ValueError(f"{caller}: samples must have one axis, mono, got shape {samples.shape}")
