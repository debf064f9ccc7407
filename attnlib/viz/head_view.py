"""The head view: one HTML page on which a reader explores what each head of each layer attends to.

The page is `page/head_view.html` with its style, its script and the weights put in; it fetches nothing.
After J. Vig, "A multiscale visualization of attention in the Transformer model" (2019, arXiv:1906.05714).
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from attnlib.checks import check_integer
from attnlib.viz.attention_maps import AttentionMaps
from attnlib.viz.token_labels import token_label
from attnlib.whole_file import whole_or_nothing

__all__ = ["HeadView", "head_view"]

# Pages beyond this make browsers slow, and nobody reads so many lines.
_LARGEST = 64 << 20

# What a notebook makes room for: a token, all that is not tokens, and the most before the page scrolls.
_ROW, _AROUND, _TALLEST = 26, 260, 900


class HeadView:
    """A page made by `head_view`; a notebook shows it.

    Attributes
    ----------
    html
        The whole page.
    """

    def __init__(self, html: str, rows: int) -> None:
        self.html = html
        self._rows = rows

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, in UTF-8, whole or not at all; ValueError if `path` is no file."""
        with whole_or_nothing(Path(path), "w") as file:
            file.write(self.html)

    def _repr_html_(self) -> str:
        # A frame of its own: nothing of one view reaches another one, or the notebook around it.
        height = min(_AROUND + _ROW * self._rows, _TALLEST)
        return (
            f'<iframe title="Attention head view" sandbox="allow-scripts" width="100%" height="{height}" '
            f'style="border: 0" srcdoc="{html.escape(self.html)}"></iframe>'
        )

    def __repr__(self) -> str:
        return f"HeadView({self._rows} rows, {len(self.html) / 1e6:.1f} MB)"


def head_view(
    maps: AttentionMaps | Sequence[AttentionMaps], *, layer: int | None = None, title: str = "Attention"
) -> HeadView:
    """Make a page that shows attention as lines between tokens.

    Queries stand on the left and keys on the right; each head has a colour and is switched on and off by
    itself; the layer is chosen, and pointing at a token leaves only its lines. All of it can be done with the
    keyboard. The page works in a notebook and as a file, without a network.

    Parameters
    ----------
    maps
        What `attention_weights` returns; or several, of an encoder-decoder say, one of which is shown at a
        time.
    layer
        The number of the layer to show first. Default: the first.
    title
        What stands above.

    Returns
    -------
    HeadView

    Raises
    ------
    TypeError, ValueError
        If `maps` are no maps, none, or of no tokens; if the layer is not there; or if the page would take
        more than 64 MB. A weight takes 8/3 bytes.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import viz
    >>> weights = np.full((2, 3, 3), 1 / 3)
    >>> view = viz.head_view(viz.AttentionMaps(weights, ["the", "cat", "sat"]), title="Even")
    >>> view.save("view.html")  # doctest: +SKIP
    >>> "<title>Even</title>" in view.html, "http" in view.html.replace("http-equiv", "")
    (True, False)
    """
    if not isinstance(maps, (AttentionMaps, Iterable)):
        raise TypeError(f"head_view: maps must be AttentionMaps, got {type(maps).__name__}")
    several = [maps] if isinstance(maps, AttentionMaps) else list(maps)
    for found in several:
        if not isinstance(found, AttentionMaps):
            raise TypeError(f"head_view: maps must be AttentionMaps, got {type(found).__name__}")
        if not found.weights.size:
            raise ValueError(f"head_view: there is nothing to show in weights of {found.weights.shape}")
    if not several:
        raise ValueError("head_view: there are no maps")
    size = sum(found.weights.size * 8 // 3 for found in several)
    if size > _LARGEST:
        shapes = [found.weights.shape for found in several]
        raise ValueError(
            f"head_view: weights of {shapes} would make a page of {size >> 20} MB, and {_LARGEST >> 20} are "
            "the most: show fewer layers (layers=, or --layer on the command line), or less text"
        )
    if not isinstance(title, str):
        raise TypeError(f"head_view: title must be a str, got {type(title).__name__}")
    first = several[0]
    if layer is not None:
        layer = check_integer("head_view", "layer", layer)
        first.layer(layer)  # raises if it is not there
    data = {
        "layer": 0 if layer is None else first.layers.index(layer),
        "maps": [_data(found) for found in several],
    }
    page = files("attnlib.viz") / "page"
    style, script = ((page / f"head_view.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    parts = {
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'",
        "title": html.escape(title.encode(errors="replace").decode()),
        "style": style,
        "script": script,
        # ASCII; and without "<" neither "</script" nor "<!--" can end the element early.
        "data": json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"),
    }
    template = (page / "head_view.html").read_text(encoding="utf-8")
    # In one pass: what is put in is not searched again.
    text = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], template)
    return HeadView(text, max(max(len(found.queries), len(found.keys)) for found in several))


def _data(maps: AttentionMaps) -> dict[str, Any]:
    """Describe maps for the page's script; weights as 0 to 65535, in 16 bits, little-endian, in base64."""
    weights = np.rint(np.minimum(maps.weights, 1) * 65535).astype("<u2")
    return {
        "kind": maps.kind,
        "queries": [token_label(token) for token in maps.queries],
        "keys": [token_label(token) for token in maps.keys],
        "layers": list(maps.layers),
        "heads": maps.heads,
        "weights": [base64.b64encode(layer.tobytes()).decode() for layer in weights],
    }


def _hash(source: str) -> str:
    """Return what a Content-Security-Policy calls a style or script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
