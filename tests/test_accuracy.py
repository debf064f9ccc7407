"""docs/accuracy.md: every line that its tool measures is there; the figures of row-wise operations hold."""

from __future__ import annotations

import re
from pathlib import Path

import measure_accuracy
import numpy as np
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "accuracy.md"
LINE = re.compile(r"^\| (`.*?) \| (\w+) \|(.*)\|$", re.MULTILINE)
FIGURES = {
    (name, dtype): [[float(figure) for figure in cell.split(",")] for cell in cells.split("|")]
    for name, dtype, cells in LINE.findall(PAGE.read_text(encoding="utf-8"))
}


def test_every_line_is_there() -> None:
    names = {name for table in measure_accuracy.TABLES.values() for name, _ in table}
    dtypes = ("float64", "float32", "float16", "bfloat16")
    assert set(FIGURES) == {(name, dtype) for name in names for dtype in dtypes}


@pytest.mark.parametrize("name", [name for name, _ in measure_accuracy.TABLES["rows"]])
def test_rows_in_float32(name: str) -> None:
    """On the rung in use no error is larger than the largest of all rungs; figures have three digits."""
    measure = dict(measure_accuracy.TABLES["rows"])[name]
    for found, listed in zip(
        measure(np.dtype(np.float32)), zip(*FIGURES[name, "float32"], strict=True), strict=True
    ):
        assert 0 < found <= 1.01 * max(listed)
