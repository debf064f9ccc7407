"""Heat maps of weights: the right panels, values and labels, without a display."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import viz

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("Agg")
pyplot = pytest.importorskip("matplotlib.pyplot")

TOKENS = ["[CLS]", " the", "$x$ $", "a" * 30, "\n"]


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture
def maps(rng: np.random.Generator) -> viz.AttentionMaps:
    weights = rng.random((3, 6, 5, 5))
    return viz.AttentionMaps(weights / weights.sum(-1, keepdims=True), TOKENS, layers=[0, 4, 9])


def panels(axes: Any) -> list[tuple[str, Any]]:
    """Return title and values of every panel that is seen."""
    return [(panel.get_title(), panel.images[0].get_array()) for panel in axes.flat if panel.get_visible()]


def test_a_layer(maps: viz.AttentionMaps, tmp_path: Path) -> None:
    figure, axes = viz.heat_map(maps, layers=4)
    assert axes.shape == (2, 4)
    found = panels(axes)
    assert [title for title, _ in found] == [f"layer 4, head {head}" for head in range(6)]
    for head, (_, values) in enumerate(found):
        np.testing.assert_array_equal(values, maps.layer(4)[head])
    labels = ["[CLS]", "·the", "$x$·$", "a" * 19 + "…", "↵"]
    assert [text.get_text() for text in axes[0, 0].get_yticklabels()] == labels
    assert [text.get_text() for text in axes[1, 1].get_xticklabels()] == labels
    assert axes[0, 0].images[0].get_clim() == (0, 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # a font without the arrow
        figure.savefig(tmp_path / "heads.png")
    image = matplotlib.image.imread(tmp_path / "heads.png")
    assert len(np.unique(image.reshape(-1, image.shape[-1]), axis=0)) > 100


def test_all_layers(maps: viz.AttentionMaps) -> None:
    """A row a layer, and no labels."""
    figure, axes = viz.heat_map(maps)
    assert axes.shape == (3, 6)
    assert panels(axes)[13][0] == "layer 9, head 1"
    assert not axes[0, 0].get_xticklabels()
    assert figure.get_size_inches().max() < 12


@pytest.mark.parametrize(
    ("options", "shape", "titles"),
    [
        ({"layers": 9, "heads": 2}, (1, 1), ["layer 9, head 2"]),
        ({"layers": [9, 0], "heads": [3]}, (2, 1), ["layer 9, head 3", "layer 0, head 3"]),
        ({"layers": [0], "heads": [5, 1], "columns": 1}, (2, 1), ["layer 0, head 5", "layer 0, head 1"]),
        ({"heads": np.arange(2), "columns": 4, "labels": True}, (2, 4), None),
    ],
)
def test_choices(
    options: dict[str, Any], shape: tuple[int, int], titles: list[str] | None, maps: viz.AttentionMaps
) -> None:
    _, axes = viz.heat_map(maps, **options)
    assert axes.shape == shape
    if titles is not None:
        assert [title for title, _ in panels(axes)] == titles
    else:
        assert len(panels(axes)) == 6
        assert len(axes[0, 0].get_xticklabels()) == 5


def test_into_a_figure(maps: viz.AttentionMaps) -> None:
    """Into half of a figure of the caller's; and cross-attention, which is not square."""
    whole = matplotlib.figure.Figure()
    left, right = whole.subfigures(1, 2)
    cross = viz.AttentionMaps(np.full((2, 3, 7), 1 / 7), kind="cross")
    found, _ = viz.heat_map(maps, layers=0, figure=left)
    assert found is left
    _, others = viz.heat_map(cross, figure=right)
    assert others.shape == (1, 2)
    assert len(whole.subfigs[1].axes) == 3  # with the bar of colours
    assert pyplot.get_fignums() == []


def test_a_long_text_has_no_labels() -> None:
    _, axes = viz.heat_map(viz.AttentionMaps(np.eye(65)[None]))
    assert not axes[0, 0].get_xticklabels()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layers": 1}, ValueError, r"no layer 1, but \[0, 4, 9\]"),
        ({"heads": [0, 6]}, ValueError, "no head 6"),
        ({"heads": -1}, ValueError, "no head -1"),
        ({"layers": []}, ValueError, "no layer is asked for"),
        ({"heads": [0.0]}, TypeError, "head must be an integer, got float"),
        ({"layers": 0.5}, TypeError, "layers must be one integer or several, got float"),
        ({"columns": 0}, ValueError, "columns must be at least 1, got 0"),
        ({"columns": "x"}, TypeError, "columns must be an integer, got str"),
        ({"maps": viz.AttentionMaps(np.zeros((1, 0, 4)))}, ValueError, r"nothing to show.*\(1, 1, 0, 4\)"),
        ({"maps": np.zeros((1, 2, 3, 3))}, TypeError, "must be AttentionMaps, got ndarray"),
    ],
)
def test_bad_input(
    options: dict[str, Any], error: type[Exception], message: str, maps: viz.AttentionMaps
) -> None:
    with pytest.raises(error, match=message):
        viz.heat_map(**{"maps": maps, **options})


def test_without_matplotlib(maps: viz.AttentionMaps, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.pyplot")
    with pytest.raises(ImportError, match=r'attnlib\.viz: .* matplotlib .* "attnlib\[viz\]"'):
        viz.heat_map(maps)
