"""Valid random arguments for what shows attention, and what must be in the pictures."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import unicodedata
from typing import Any

import numpy as np
from viz.test_statistics import check

from attnlib import viz

from .attention_calls import attention
from .calls import MOST_COPIED, Call, Draw
from .finding import Finding

__all__ = ["VIZ"]

Arguments = dict[str, Any]

# Of one byte and more, beyond 16 bits, invisible, turning around, ending a script, half a surrogate pair.
_CHARACTERS = "aé語🙂 \t\n\x00\x7f\u200d\u202e\ufeff\u3000$<>&\"'{}/\\\ud800"


def attention_statistics(draw: Draw) -> Call:
    """Those of any attention."""
    draw.mixed = False
    arguments = attention(draw).arguments
    for name in ("value", "return_weights", "return_lse"):
        arguments.pop(name, None)
    arguments["query"] = _with_all_axes(arguments)
    arguments |= {"top_k": int(draw.rng.integers(1, 9)), "block": draw.pick((1, 3, 64, 1000))}

    def function(**given: Any) -> Any:
        if any(isinstance(x, np.ndarray) and x.size > MOST_COPIED for x in given.values()):
            # So many heads would be gone through one by one.
            raise ValueError("attention_statistics: too large for this test")
        # The bounds are those of the machine's own byte order.
        sound = call.valid and call.clean and given["query"].dtype.isnative
        found = (check if sound else viz.attention_statistics)(**given)
        return found.received, found.entropy, found.top_keys, found.top_weights

    # Python says itself what is wrong with a truth value.
    names = ("attention_statistics", "attention")
    call = Call(names, function, arguments, switches=("causal",))
    return call


def _with_all_axes(arguments: Arguments) -> Any:
    """Give the query all leading axes: masks and the like must have no more than it and the key."""
    query = arguments["query"]
    arrays = (arguments[name] for name in ("query", "key", "mask", "bias"))
    leading = [x.shape[:-3] for x in arrays if x is not None]
    leading += [np.shape(x) for x in (arguments["key_lengths"], arguments["query_offset"]) if x is not None]
    shape = np.broadcast_shapes(*leading)
    return np.array(np.broadcast_to(query, (*shape, *query.shape[-3:]))) if shape else query


def _text(draw: Draw) -> str:
    return "".join(draw.pick(_CHARACTERS) for _ in range(int(draw.rng.integers(5))))


def _maps(draw: Draw, fewest: int = 0) -> Arguments:
    """Draw what maps are made of."""
    layers, heads = int(draw.rng.integers(1, 4)), int(draw.rng.integers(1, 4))
    queries, keys = (max(draw.size(17), fewest) for _ in range(2))
    weights = draw.rng.random((layers, heads, queries, keys)).astype(draw.dtype)
    if layers == 1 and draw.chance(0.5):
        weights = weights[0]
    numbers = tuple(int(n) for n in draw.rng.permutation(9)[:layers])
    return {
        "weights": weights,
        "queries": tuple(_text(draw) for _ in range(queries)) if draw.chance(0.7) else (),
        "keys": tuple(_text(draw) for _ in range(keys)) if draw.chance(0.7) else (),
        "kind": draw.pick(("encoder", "decoder", "cross")),
        "layers": numbers if draw.chance(0.5) else (),
    }


def attention_maps(draw: Draw) -> Call:
    """Weights with their tokens."""

    def function(weights: Any, **tokens: Any) -> Any:
        if isinstance(weights, np.ndarray) and weights.size > MOST_COPIED:
            raise ValueError("AttentionMaps: too large for this test")
        maps = viz.AttentionMaps(weights, **tokens)
        if (len(maps.layers), maps.heads, len(maps.queries), len(maps.keys)) != maps.weights.shape:
            raise Finding(f"{maps} has tokens {maps.queries}, {maps.keys} and layers {maps.layers}")
        repr(maps)
        return maps.weights, *(maps.layer(number) for number in maps.layers)

    def exact(a: Arguments) -> Any:
        weights = a["weights"].astype(np.float32)
        weights = weights[None] if weights.ndim == 3 else weights
        return [(weights, 0.0), *((layer, 0.0) for layer in weights)]

    return Call("AttentionMaps", function, _maps(draw), exact, switches=("queries", "keys", "layers"))


def head_view(draw: Draw) -> Call:
    """A page with one or two maps."""
    several = [viz.AttentionMaps(**_maps(draw)) for _ in range(int(draw.rng.integers(1, 3)))]
    arguments: Arguments = {
        "maps": several[0] if len(several) == 1 and draw.chance(0.5) else tuple(several),
        "layer": draw.pick(several[0].layers) if draw.chance(0.5) else None,
    }
    title = _text(draw)

    def function(maps: Any, layer: Any) -> Any:
        view = viz.head_view(maps, layer=layer, title=title)
        view._repr_html_()
        if call.valid:
            _compare_page(view.html, several)
        return np.frombuffer(view.html.encode(), np.uint8)

    names = ("head_view", "AttentionMaps")
    call = Call(names, function, arguments)
    call.valid = all(maps.weights.size for maps in several)
    return call


def _compare_page(page: str, several: list[viz.AttentionMaps]) -> None:
    """Read the weights out of a page again."""
    found = re.search(r'<script[^>]*type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)
    if found is None:
        raise Finding("a page without data")
    for maps, read in zip(several, json.loads(found[1])["maps"], strict=True):
        for layer, text in zip(maps.weights, read["weights"], strict=True):
            values = np.frombuffer(base64.b64decode(text), "<u2").reshape(layer.shape) / 65535
            if np.abs(values - layer).max() > 0.51 / 65535:
                raise Finding("a page has other weights")
        shown = [viz.token_label(token) for token in maps.keys]
        if read["keys"] != shown or read["layers"] != list(maps.layers):
            raise Finding(f"a page has the tokens {read['keys']} and the layers {read['layers']}")


def heat_map(draw: Draw) -> Call:
    """Some panels of a picture."""
    from matplotlib.figure import Figure  # here, since it comes with an extra

    # Of maps without tokens matplotlib warns.
    maps = viz.AttentionMaps(**_maps(draw, fewest=1))
    layers, heads = (
        tuple(numbers[: int(draw.rng.integers(1, len(numbers) + 1))]) if draw.chance(0.5) else None
        for numbers in (maps.layers, range(maps.heads))
    )
    arguments: Arguments = {
        "maps": maps,
        "layers": layers,
        "heads": heads[0] if heads and len(heads) == 1 and draw.chance(0.5) else heads,
        "labels": draw.pick((None, True, False)),
    }
    columns = draw.pick((None, 1, 2, 5))

    def function(maps: Any, **options: Any) -> Any:
        figure, axes = viz.heat_map(maps, columns=columns, figure=Figure(), **options)
        panels = [panel for panel in axes.flat if panel.get_visible()]
        if call.valid:
            _compare_panels(panels, maps, layers or maps.layers, heads or tuple(range(maps.heads)))
            if draw.chance(0.1):
                figure.canvas.draw()
        return np.array(len(panels))

    # Python says itself what is wrong with a truth value.
    call = Call("heat_map", function, arguments, switches=("labels",))
    return call


def _compare_panels(panels: list[Any], maps: viz.AttentionMaps, layers: Any, heads: Any) -> None:
    places = [(layer, head) for layer in layers for head in heads]
    for panel, (layer, head) in zip(panels, places, strict=True):
        drawn = np.asarray(panel.images[0].get_array())
        if not np.array_equal(drawn, maps.layer(layer)[head]):
            raise Finding(f"the panel of layer {layer}, head {head} shows {drawn}")


def token_label(draw: Draw) -> Call:
    """Any characters: nothing that is left of them is invisible, but for joiners."""
    code = int(draw.rng.integers(0x110000))
    text = _text(draw) + (chr(code) if draw.chance(0.7) else "")

    def function(token: Any) -> Any:
        label = viz.token_label(token)
        # Fonts may have shapes for private characters (Co).
        invisible = ("Cc", "Cf", "Cn", "Cs", "Zl", "Zp", "Zs")
        hidden = [c for c in label if unicodedata.category(c) in invisible and c not in "\u200c\u200d"]
        if not label or hidden or viz.token_label(label) != label:
            raise Finding(f"{token!r} is shown as {label!r}")
        return np.array(len(label))

    return Call("token_label", function, {"token": text})


VIZ = (
    attention_statistics,
    attention_maps,
    head_view,
    token_label,
    *((heat_map,) if importlib.util.find_spec("matplotlib") is not None else ()),
)
