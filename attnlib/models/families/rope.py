"""The angles of rotary embedding, with the ways of stretching them that checkpoints ask for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.files.config import Fields

__all__ = ["Rope", "RopeTable", "read_rope"]


@dataclass(frozen=True)
class Rope:
    """How fast each plane turns.

    Parameters
    ----------
    theta
        The base: plane i of R/2 turns by ``theta ** (-2 i / R)`` a position.
    kind
        ``"default"``, ``"linear"`` (all slower by `factor`) or ``"llama3"`` (slow planes slower by `factor`,
        fast ones as they are, those between blended, as Llama 3.1's reference code does).
    factor, low_freq_factor, high_freq_factor, original_length
        Of those.
    """

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_length: int = 8192

    def frequencies(self, size: int) -> NDArray[np.float64]:
        """Compute the turn of each plane in radians a position, (R/2,) for R = `size`."""
        turns = self.theta ** (-np.arange(0, size, 2) / size)
        if self.kind == "linear":
            return turns / self.factor
        if self.kind == "llama3":
            cycles = self.original_length * turns / (2 * math.pi)
            span = self.high_freq_factor - self.low_freq_factor
            kept = np.clip((cycles - self.low_freq_factor) / span, 0.0, 1.0)
            return turns * (kept + (1 - kept) / self.factor)
        return turns


class RopeTable:
    """Cosines and sines, (positions, R/2) each, made for as many positions as were needed so far."""

    def __init__(self, frequencies: NDArray[np.float64], dtype: np.dtype[Any]) -> None:
        self._frequencies = frequencies
        self._dtype = dtype
        self._tables: tuple[NDArray[Any], NDArray[Any]] | None = None

    def upto(self, length: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the tables of at least `length` positions."""
        tables = self._tables
        if tables is None or len(tables[0]) < length:
            positions = np.arange(1 << max(length - 1, 63).bit_length())
            angles = positions[:, None] * self._frequencies
            tables = np.cos(angles).astype(self._dtype), np.sin(angles).astype(self._dtype)
            self._tables = tables
        return tables


def read_rope(file: Fields) -> Rope:
    """Read the rotary embedding of a ``config.json``, in the present spelling or that before it."""
    parameters = file.get("rope_parameters", {}) or file.get("rope_scaling", {})
    if not isinstance(parameters, dict):
        raise file.error("rope_parameters", f"must be an object, found {type(parameters).__name__}")
    inner = Fields(file.path, parameters)
    theta = (inner if "rope_theta" in inner else file).number("rope_theta", 1.0, 1e12, default=10000.0)
    kind = inner.text("rope_type" if "rope_type" in inner else "type", default="default")
    if kind == "default":
        return Rope(theta)
    if kind == "linear":
        return Rope(theta, kind, inner.number("factor", 1.0, 1e6))
    if kind == "llama3":
        rope = Rope(
            theta,
            kind,
            inner.number("factor", 1.0, 1e6),
            inner.number("low_freq_factor", 0.0, 1e6),
            inner.number("high_freq_factor", 0.0, 1e6),
            inner.integer("original_max_position_embeddings", 1, 1 << 24),
        )
        if rope.high_freq_factor <= rope.low_freq_factor:
            raise file.error("high_freq_factor", f"must exceed low_freq_factor {rope.low_freq_factor}")
        return rope
    raise file.error("rope_type", f"{kind!r} is not supported; known are default, linear, llama3")
