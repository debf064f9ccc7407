"""Heat maps of attention weights: a panel for each head, a row a query, a column a key."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.checks import check_integer
from attnlib.viz.attention_maps import AttentionMaps
from attnlib.viz.token_labels import token_label

__all__ = ["heat_map"]

# In inches: a cell beside which a token can be read, and one without; no side of a panel is shorter or longer
# than the other two.
_CELL, _BARE_CELL, _SHORTEST, _LONGEST = 0.17, 0.03, 1.1, 9.0
_COLUMNS = 4
_LABELLED = 64  # tokens beyond which labels would be a grey block
_CHARACTERS = 20  # of a label


def heat_map(
    maps: AttentionMaps,
    *,
    layers: int | Collection[int] | None = None,
    heads: int | Collection[int] | None = None,
    columns: int | None = None,
    labels: bool | None = None,
    colours: str = "viridis",
    figure: Any = None,
) -> tuple[Any, NDArray[Any]]:
    """Draw the weights of heads and layers as a grid of heat maps.

    Parameters
    ----------
    maps
        What `attention_weights` returns.
    layers
        The number of one layer, or of several. Default: all.
    heads
        The number of one head, or of several. Default: all.
    columns
        Panels in a row. Default: as many as there are heads, so that each layer has a row of its own; for one
        layer 4 at most.
    labels
        Whether to write the tokens beside every panel. Default: for one layer and at most 64 tokens.
    colours
        The name of a colour map of matplotlib. It goes from 0 to 1 in every panel, so that panels compare.
    figure
        A figure or subfigure of matplotlib to draw into. Default: a new one of pyplot, of a fitting size.

    Returns
    -------
    figure : matplotlib.figure.Figure
        To save (``figure.savefig("heads.png")``) or to show; a new one is pyplot's, and is to be closed as
        such.
    axes : (rows, columns) ndarray of matplotlib.axes.Axes
        The panels, layer by layer, to draw more on. Those without a head are not visible.

    Raises
    ------
    ImportError
        If matplotlib is not installed; it comes with ``pip install "attnlib[viz]"``.
    TypeError, ValueError
        If `maps` are no maps, or of no tokens, or if a layer or head is not there.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import viz
    >>> maps = viz.AttentionMaps(np.full((1, 8, 3, 3), 1 / 3), ["the", "cat", "sat"])
    >>> figure, axes = viz.heat_map(maps, heads=[0, 5])  # doctest: +SKIP
    >>> axes.shape  # doctest: +SKIP
    (1, 2)
    """
    if not isinstance(maps, AttentionMaps):
        raise TypeError(f"heat_map: maps must be AttentionMaps, got {type(maps).__name__}")
    if not maps.weights.size:
        raise ValueError(f"heat_map: there is nothing to show in weights of {maps.weights.shape}")
    shown_layers = _chosen("layer", layers, maps.layers)
    shown_heads = _chosen("head", heads, range(maps.heads))
    if columns is None:
        columns = len(shown_heads) if len(shown_layers) > 1 else min(len(shown_heads), _COLUMNS)
    columns = check_integer("heat_map", "columns", columns, 1)
    panels = [(layer, head) for layer in shown_layers for head in shown_heads]
    rows = math.ceil(len(panels) / columns)
    if labels is None:
        labels = len(shown_layers) == 1 and max(len(maps.queries), len(maps.keys)) <= _LABELLED

    if figure is None:
        cell = _CELL if labels else _BARE_CELL
        width, height = (
            min(max(cell * len(tokens), _SHORTEST), _LONGEST) for tokens in (maps.keys, maps.queries)
        )
        beside = 0.09 * max(map(len, _labels((*maps.queries, *maps.keys))), default=0) if labels else 0
        size = (columns * (width + beside + 0.15) + 0.9, rows * (height + beside + 0.4) + 0.5)
        from attnlib.models.extras import require  # here, since statistics do without

        figure = require("matplotlib.pyplot", extra="viz").figure(figsize=size, layout="constrained")
    axes: NDArray[Any] = figure.subplots(rows, columns, squeeze=False)
    image = None
    for panel, place in zip(axes.flat, panels, strict=False):
        image = _draw(panel, maps, *place, labels=labels, colours=colours)
    for panel in axes.flat[len(panels) :]:
        panel.set_visible(False)
    figure.colorbar(image, ax=axes, label="weight", shrink=0.6, pad=0.01, aspect=30)
    return figure, axes


def _draw(panel: Any, maps: AttentionMaps, layer: int, head: int, *, labels: bool, colours: str) -> Any:
    weights = maps.layer(layer)[head]
    image = panel.imshow(weights, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="equal")
    panel.set_title(f"layer {layer}, head {head}", fontsize=8, pad=3)
    panel.tick_params(length=0, labelsize=7, pad=2)
    if not labels:
        panel.set_xticks([])
        panel.set_yticks([])
        return image
    panel.set_xticks(np.arange(len(maps.keys)), _labels(maps.keys), rotation=90)
    panel.set_yticks(np.arange(len(maps.queries)), _labels(maps.queries))
    for text in (*panel.get_xticklabels(), *panel.get_yticklabels()):
        text.set_parse_math(False)  # a dollar sign is a token, too
    return image


def _labels(tokens: Sequence[str]) -> list[str]:
    shown = [token_label(token) for token in tokens]
    return [label if len(label) <= _CHARACTERS else label[: _CHARACTERS - 1] + "…" for label in shown]


def _chosen(name: str, numbers: int | Collection[int] | None, there: Sequence[int]) -> list[int]:
    """Return the numbers that are asked for, in their order."""
    if numbers is None:
        wanted = list(there)
    else:
        if not isinstance(numbers, (int, np.integer, Iterable)):
            raise TypeError(f"heat_map: {name}s must be one integer or several, got {type(numbers).__name__}")
        wanted = [numbers] if isinstance(numbers, (int, np.integer)) else list(numbers)
    for number in wanted:
        if check_integer("heat_map", name, number) not in there:
            raise ValueError(f"heat_map: there is no {name} {number}, but {list(there)}")
    if not wanted:
        raise ValueError(f"heat_map: no {name} is asked for")
    return wanted
