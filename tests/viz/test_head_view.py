"""The page of the head view as a text: whole, safe, compact. See test_browser.py for what it does."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attnlib import viz


def page_data(page: str) -> Any:
    """Return what the page's script reads."""
    (text,) = re.findall(r'<script type="application/json" class="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


class Elements(HTMLParser):
    """Collect the elements of a page with their attributes and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def elements(page: str) -> Elements:
    parser = Elements()
    parser.feed(page)
    return parser


def test_weights_in_the_page(rng: np.random.Generator) -> None:
    weights = rng.random((2, 3, 4, 5)).astype(np.float32)
    weights[0, 0, 0, :3] = 0, 1, 1.0000002
    maps = viz.AttentionMaps(weights, list("abcd"), ["v", " w", "x", "y", "\n"], "cross", layers=[1, 7])
    data = page_data(viz.head_view(maps, layer=7).html)
    assert data["layer"] == 1
    (found,) = data["maps"]
    assert found["queries"] == list("abcd")
    assert found["keys"] == ["v", "·w", "x", "y", "↵"]
    assert (found["kind"], found["layers"], found["heads"]) == ("cross", [1, 7], 3)
    decoded = [np.frombuffer(base64.b64decode(layer), "<u2") / 65535 for layer in found["weights"]]
    assert np.abs(np.reshape(decoded, weights.shape) - weights).max() <= 0.5 / 65535 + 1e-6
    assert decoded[0][:3].tolist() == [0, 1, 1]


def test_nothing_from_elsewhere() -> None:
    """No address anywhere; and the policy lets in the one style and the one script that are there."""
    page = viz.head_view(viz.AttentionMaps(np.eye(3)[None])).html
    parser = elements(page)
    (data,) = re.findall(r'class="data">(.*?)</script>', page)
    assert not re.search(r"https?:|//\w|url\(|@import|\bfetch\(|XMLHttp|WebSocket", page.replace(data, ""))
    assert not {"link", "img", "iframe", "base", "form"} & {tag for tag, _ in parser.found}
    assert not any({"src", "href", "style"} & set(attributes) for _, attributes in parser.found)
    policy = next(attributes["content"] for tag, attributes in parser.found if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    style, _, script = re.findall(r"<(?:style|script)[^>]*>(.*?)</(?:style|script)>", page, re.DOTALL)
    for name, source in (("style", style), ("script", script)):
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy


@pytest.mark.parametrize(
    "token",
    [
        "</script>",
        "<!--<script>",
        "\"'&<>",
        "{{script}} {{data}}",
        "\\u003c",
        "\u2028",
        "\ud800",
        "\x00",
        "שלום",
    ],
)
def test_tokens_are_data(token: str) -> None:
    plain = elements(viz.head_view(viz.AttentionMaps(np.ones((1, 1, 1)), ["x"]), title="x").html)
    view = viz.head_view(viz.AttentionMaps(np.ones((1, 1, 1)), [token]), title=token)
    found = elements(view.html)
    assert [tag for tag, _ in found.found] == [tag for tag, _ in plain.found]
    assert page_data(view.html)["maps"][0]["queries"] == [viz.token_label(token)]
    assert found.texts.count(token.encode(errors="replace").decode()) == 2  # title and heading


def test_it_is_compact(tmp_path: Path) -> None:
    """12 layers of 12 heads of 64 tokens: 590 thousand weights in less than 2 MB."""
    maps = viz.AttentionMaps(np.full((12, 12, 64, 64), 1 / 64, np.float32))
    view = viz.head_view(maps)
    view.save(tmp_path / "view.html")
    assert (tmp_path / "view.html").read_text(encoding="utf-8") == view.html
    assert (tmp_path / "view.html").stat().st_size < 2_000_000
    assert repr(view) == "HeadView(64 rows, 1.6 MB)"


def test_in_a_notebook() -> None:
    """A frame that holds the whole page, and lets it do nothing but run its script."""
    view = viz.head_view(viz.AttentionMaps(np.eye(3)[None], ["a", "b", '"']))
    ((tag, attributes),) = elements(view._repr_html_()).found
    assert tag == "iframe"
    assert attributes["srcdoc"] == view.html
    assert attributes["sandbox"] == "allow-scripts"
    assert 300 < int(attributes["height"] or 0) < 400
    tall = viz.head_view(viz.AttentionMaps(np.eye(300)[None]))
    assert 'height="900"' in tall._repr_html_()
    assert html.escape(tall.html) in tall._repr_html_()


@pytest.mark.parametrize(
    ("maps", "options", "error", "message"),
    [
        (np.eye(3), {}, TypeError, "must be AttentionMaps, got"),
        ([np.eye(3)], {}, TypeError, "must be AttentionMaps, got ndarray"),
        (5, {}, TypeError, "must be AttentionMaps, got int"),
        ([], {}, ValueError, "there are no maps"),
        (viz.AttentionMaps(np.eye(3)[None]), {"title": 5}, TypeError, "title must be a str, got int"),
        (viz.AttentionMaps(np.eye(3)[None]), {"layer": np.arange(3)}, TypeError, "layer must be an integer"),
        (viz.AttentionMaps(np.zeros((1, 0, 4))), {}, ValueError, r"\(1, 1, 0, 4\)"),
        (viz.AttentionMaps(np.eye(3)[None]), {"layer": 1}, ValueError, "no layer 1"),
        (
            viz.AttentionMaps(np.broadcast_to(np.float32(0), (7, 4, 1000, 1000))),
            {},
            ValueError,
            r"\(7, 4, 1000, 1000\).* a page of 71 MB, and 64 are the most: show fewer layers",
        ),
    ],
)
def test_bad_input(maps: Any, options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        viz.head_view(maps, **options)
