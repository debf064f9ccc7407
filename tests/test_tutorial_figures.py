"""The figures of the tutorial: what is measured is what the pages say, and drawing needs no screen."""

from __future__ import annotations

import importlib
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlib as al

ROOT = Path(__file__).parent.parent


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("tutorial_figures")


def test_reach(figures: Any) -> None:
    """An RNN passes on to later places and fades, a convolution ends, attention is everywhere."""
    changes = figures.measure_reach()
    middle = figures.REACH
    before, after = slice(None, middle), slice(middle, None)

    assert (changes["RNN"][before] == 0).all()
    assert (changes["RNN"][after] > 0).all()
    assert (np.diff(changes["RNN"][after]) < 0).all()
    assert changes["RNN"][-1] < 1e-11

    assert np.flatnonzero(changes["convolution"]).tolist() == [middle - 1, middle, middle + 1]

    others = np.delete(changes["attention"], middle)
    assert others.min() > 0
    assert others.max() < 1.5 * others.min()


def test_drawing(figures: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both figures and the table, twice: but for the times they come out the same."""
    pytest.importorskip("matplotlib")
    threads = al.get_num_threads()
    options = ["--lengths", "4", "8", "--rotations", "1", "--seconds", "0.001"]
    for folder in ("first", "second"):
        figures.main(["--output", str(tmp_path / folder), *options])
    assert al.get_num_threads() == threads
    assert "| 8 |" in capsys.readouterr().out
    first, second = (tmp_path / folder / "reach.svg" for folder in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    assert ET.parse(tmp_path / "first" / "time.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("name", ["time", "reach"])
def test_committed(name: str) -> None:
    path = ROOT / "docs" / "tutorial" / "figures" / f"{name}.svg"
    text = path.read_text(encoding="utf-8")
    assert ET.fromstring(text).tag.endswith("svg")
    assert len(text) < 100_000
    assert "<dc:date>" not in text
