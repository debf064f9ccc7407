"""The head view in a real browser: it draws what it should, its controls work, and it fetches nothing."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attnlib import viz

from .chromium import SHIFT, Page, browser, find_chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(find_chromium() is None, reason="no chromium: apt-get install chromium"),
]
pytest.importorskip("matplotlib")  # reads the screenshots

Array = NDArray[Any]
ROW = 26  # the height of a token
TOKENS = ["the", "cat", "sat", "down"]

# Layer 3: each token looks at itself (head 0), or at its mirror image (head 1). Layer 5: all look at the
# first token (head 0), or at all alike (head 1).
WEIGHTS = np.array(
    [[np.eye(4), np.eye(4)[::-1]], [np.eye(4)[[0, 0, 0, 0]], np.full((4, 4), 0.25)]], dtype=np.float32
)
MAPS = viz.AttentionMaps(WEIGHTS, TOKENS, layers=[3, 5])


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    program = find_chromium()
    assert program is not None
    with browser(program, tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture
def page(tab: Page, tmp_path: Path) -> Page:
    tab.resize(900, 600)
    tab.use_colours("light")
    show(tab, viz.head_view(MAPS), tmp_path)
    return tab


def show(tab: Page, view: viz.HeadView, folder: Path) -> None:
    path = folder / "view.html"
    view.save(path)
    tab.open(path)
    tab.leave()


def picture(page: Page) -> Array:
    """Return how far each pixel of the lines is from the background, (rows, columns), from 0 to 1."""
    left, top, width, height = (round(number) for number in page.place("canvas"))
    image = page.pixels()
    return np.abs(image - image[-1, -1]).max(-1)[top : top + height, left : left + width]


def meets(lines: Array, column: int) -> list[float]:
    """Return where lines cross a column: the middles of its runs of coloured pixels, in rows of tokens."""
    coloured = np.flatnonzero(lines[:, column] > 0.25)
    runs = np.split(coloured, np.flatnonzero(np.diff(coloured) > 1) + 1)
    return [float(run.mean() + 0.5) / ROW - 0.5 for run in runs if run.size]


def chips(page: Page) -> list[bool]:
    found = page.evaluate("[...document.querySelectorAll('.chips button')].map((b) => b.ariaPressed)")
    return [pressed == "true" for pressed in found]


def text(page: Page, selector: str) -> list[str]:
    found = page.evaluate(f"[...document.querySelectorAll('{selector}')].map((e) => e.textContent)")
    return [str(entry) for entry in found]


def readout(page: Page) -> str:
    (found,) = text(page, ".readout")
    return found.replace("\u2068", "").replace("\u2069", "")


def test_it_draws_without_a_network(page: Page, tmp_path: Path) -> None:
    assert page.complaints() == []
    assert page.requests() == [(tmp_path / "view.html").as_uri()]
    assert text(page, ".queries bdi") == text(page, ".keys bdi") == TOKENS
    assert text(page, ".layer option") == ["3", "5"]
    assert chips(page) == [True, True]
    assert readout(page).startswith("Layer 3, 2 of 2 heads, self-attention of the encoder.")
    lines = picture(page)
    assert lines.shape[0] == 4 * ROW
    # Both heads' lines at both ends of each row; in the middle, straight ones in rows, crossing ones between.
    assert meets(lines, 1) == pytest.approx([0, 1, 2, 3], abs=0.1)
    middle = lines.shape[1] // 2
    assert meets(lines, middle) == pytest.approx([0, 1, 1.5, 2, 3], abs=0.12)


def test_heads_by_mouse(page: Page) -> None:
    both = picture(page)
    middle = both.shape[1] // 2
    page.click(".chips button", 1)
    assert chips(page) == [True, False]
    page.leave()
    straight = picture(page)
    assert meets(straight, middle) == pytest.approx([0, 1, 2, 3], abs=0.05)
    assert (straight > 0.1).sum() < 0.8 * (both > 0.1).sum()
    page.click(".chips button", 0)
    assert chips(page) == [False, False]
    page.leave()
    assert picture(page).max() == 0
    assert readout(page).startswith("Layer 3, 0 of 2 heads")
    page.click(".all")
    assert chips(page) == [True, True]
    page.click(".none")
    assert chips(page) == [False, False]
    page.click(".chips button", 1, times=2)
    assert chips(page) == [False, True]
    page.leave()
    assert meets(picture(page), middle) == pytest.approx([1.5], abs=0.1)
    page.click(".chips button", 1, times=2)
    assert chips(page) == [True, True]
    page.leave()
    np.testing.assert_array_equal(picture(page), both)


def test_heads_have_colours_of_their_own(page: Page) -> None:
    seen = []
    for head in (0, 1):
        page.click(".none")
        page.click(".chips button", head)
        page.leave()
        left, top, width, height = (round(number) for number in page.place("canvas"))
        image = page.pixels()[top : top + height, left : left + width]
        seen.append(image.reshape(-1, 3)[image.min(-1).argmin()])
    assert np.abs(seen[0] - seen[1]).max() > 0.3


def test_heads_by_keyboard(page: Page) -> None:
    focus(page, "Tab", 3)  # the layer, the step that is not disabled, the first head
    page.press("Space")
    assert chips(page) == [False, True]
    page.press("Enter")
    assert chips(page) == [True, True]
    page.press("Tab")
    page.press("Enter", SHIFT)
    assert chips(page) == [False, True]
    page.press("Enter", SHIFT)
    assert chips(page) == [True, True]
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def focus(page: Page, key: str, times: int) -> None:
    for _ in range(times):
        page.press(key)


def test_layers(page: Page) -> None:
    """By the list, by the arrows beside it, and no further than there are layers."""
    first = picture(page)
    steps = "[...document.querySelectorAll('.step')].map((step) => step.disabled)"
    assert page.evaluate(steps) == [True, False]
    page.click(".step", 1)
    page.leave()
    assert page.evaluate(steps) == [False, True]
    assert readout(page).startswith("Layer 5,")
    second = picture(page)
    # All lines of head 0 end at the first key, faint ones of head 1 everywhere.
    assert meets(second, second.shape[1] - 2)[0] == pytest.approx(0, abs=0.1)
    ink = second[:, -2].reshape(4, ROW).sum(-1)
    assert ink[0] > 1.5 * ink[1:].max()
    page.click(".step", 0)
    page.leave()
    np.testing.assert_array_equal(picture(page), first)
    page.evaluate("document.querySelector('.layer select').focus()")
    page.press("ArrowDown")
    assert readout(page).startswith("Layer 5,")
    np.testing.assert_array_equal(picture(page), second)


def test_a_token_shows_its_own_lines(page: Page) -> None:
    page.point(".queries button", 3)
    assert readout(page) == "down looks at the 0.50, down 0.50 (layer 3, the mean of 2 heads)"
    assert text(page, ".keys .weight") == ["0.50", "0.00", "0.00", "0.50"]
    assert text(page, ".queries .weight") == [""] * 4
    lines = picture(page)
    assert meets(lines, 1) == pytest.approx([3], abs=0.1)
    assert meets(lines, lines.shape[1] - 2) == pytest.approx([0, 3], abs=0.1)
    page.click(".step", 1)
    page.click(".chips button", 1)
    page.point(".keys button", 0)
    wanted = "the is looked at by the 1.00, cat 1.00, sat 1.00, down 1.00 (layer 5, head 0)"
    assert readout(page) == wanted
    page.point(".keys button", 2)
    assert readout(page) == "sat is looked at by nothing (layer 5, head 0)"
    assert picture(page).max() == 0
    page.leave()
    assert readout(page).startswith("Layer 5, head 0")


def test_tokens_are_kept_by_a_click(page: Page) -> None:
    pressed = "[...document.querySelectorAll('.tokens [aria-pressed=true] bdi')].map((e) => e.textContent)"
    everything = picture(page)
    page.click(".queries button", 1)
    page.leave()
    # The focus, which the click moved there, and the pin both hold it.
    page.evaluate("document.activeElement.blur()")
    assert page.evaluate(pressed) == ["cat"]
    assert readout(page).startswith("cat looks at")
    page.point(".keys button", 0)
    assert readout(page).startswith("the is looked at by")
    page.leave()
    assert readout(page).startswith("cat looks at")
    page.press("Escape")
    assert page.evaluate(pressed) == []
    assert readout(page).startswith("Layer 3")
    np.testing.assert_array_equal(picture(page), everything)


def test_tokens_by_keyboard(page: Page) -> None:
    focus(page, "Tab", 7)  # the layer, a step, two heads, all, none, the first query
    assert readout(page).startswith("the looks at")
    seen = []
    for key in ("ArrowDown", "ArrowRight", "End", "ArrowDown", "ArrowUp", "Home", "ArrowLeft", "ArrowUp"):
        page.press(key)
        seen.append(readout(page).split(" (")[0])
    assert [sentence.split(" 0.")[0] for sentence in seen] == [
        "cat looks at cat",
        "cat is looked at by cat",
        "down is looked at by the",
        "down is looked at by the",
        "sat is looked at by cat",
        "the is looked at by the",
        "the looks at the",
        "the looks at the",
    ]
    page.press("Tab")
    assert readout(page).startswith("the is looked at by")


NASTY = [
    "</script><script>window.hacked = 1</script>",
    "<img src=x onerror='window.hacked = 1'>",
    "<!--",
    "]]>",
    "\"'&amp;`${window.hacked = 1}",
    "\\u003c{{data}}",
    "שלום",
    "\u202eevil\x00",
    "\ud83d",
    "👩\u200d💻",
]


def test_nasty_tokens_are_only_text(tab: Page, tmp_path: Path) -> None:
    count = len(NASTY)
    maps = viz.AttentionMaps(np.full((1, count, count), 1 / count), NASTY)
    show(tab, viz.head_view(maps, title="<b>Title</b> {{script}} \ud83d"), tmp_path)
    assert text(tab, ".keys bdi") == [viz.token_label(token) for token in NASTY]
    assert text(tab, "h1") == ["<b>Title</b> {{script}} ?"]
    assert tab.evaluate("typeof window.hacked") == "undefined"
    assert tab.evaluate("document.querySelectorAll('img, b').length") == 0
    assert tab.evaluate("document.scripts.length") == 2
    assert len(tab.requests()) == 1
    assert tab.complaints() == []
    # However much there is to say of a token, it stays where it is.
    places = []
    for number in range(count):
        tab.point(".queries button", number)
        places.append(tab.place(".queries button", number)[1])
    assert np.diff(places) == pytest.approx(ROW)
    # A token that runs from right to left leaves the order of what stands around it alone.
    order = tab.evaluate(
        "[...document.querySelectorAll('.keys li:nth-child(7) *')].map((e) => e.getBoundingClientRect().left)"
    )
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("attempt", "directive"),
    [
        ("new Image().src = 'http://127.0.0.1:9/x.png'", "img-src"),
        ("fetch('http://127.0.0.1:9/x').catch(() => 0)", "connect-src"),
        ("document.body.append(make('script', 'window.hacked = 1'))", "script-src"),
        ("document.body.append(make('style', 'body {}'))", "style-src"),
    ],
)
def test_the_policy_forbids_more(attempt: str, directive: str, page: Page) -> None:
    found = page.evaluate(
        f"""new Promise((resolve) => {{
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective));
            const make = (name, textContent) => Object.assign(document.createElement(name), {{textContent}});
            {attempt};
        }})"""
    )
    assert directive in found


def test_dark(page: Page, tmp_path: Path) -> None:
    light = page.pixels()[-1, -1]
    page.use_colours("dark")
    show(page, viz.head_view(MAPS), tmp_path)
    dark = page.pixels()
    assert light.min() > 0.95
    assert dark[-1, -1].max() < 0.15
    assert dark.max() > 0.85  # letters
    assert picture(page).max() > 0.4


def test_sharp_on_dense_screens(page: Page) -> None:
    for scale in (2, 3):
        page.resize(900, 600, scale)
        page.screenshot()  # the change is told when a frame is made
        assert page.evaluate("document.querySelector('canvas').height") == scale * 4 * ROW
    page.resize(320, 600)  # a telephone
    assert page.evaluate("document.documentElement.scrollWidth") <= 320
    assert meets(picture(page), 1) == pytest.approx([0, 1, 2, 3], abs=0.1)


def test_several_kinds(tab: Page, tmp_path: Path) -> None:
    """Of an encoder-decoder: each with its own tokens, heads and layers; the chosen layer stays if it can."""
    cross = viz.AttentionMaps(np.full((1, 3, 2, 4), 0.25), ["le", "chat"], TOKENS, "cross", layers=[5])
    show(tab, viz.head_view([MAPS, cross], layer=5), tmp_path)
    assert readout(tab).startswith("Layer 5, 2 of 2 heads, self-attention of the encoder")
    tab.click(".chips button", 0)
    tab.evaluate("document.querySelector('.kind select').focus()")
    tab.press("ArrowDown")
    assert text(tab, ".queries bdi") == ["le", "chat"]
    assert text(tab, ".layer option") == ["5"]
    assert readout(tab).startswith("Layer 5, 3 of 3 heads, cross-attention")
    assert chips(tab) == [True] * 3
    tab.press("ArrowUp")
    assert text(tab, ".queries bdi") == TOKENS
    assert tab.complaints() == []


def test_a_long_text(tab: Page, tmp_path: Path) -> None:
    """Longer than a canvas can be at its full size: drawn coarser, and still a row beside each token."""
    count, last, scale = 1300, 1290, 2
    tab.use_colours("light")
    tab.resize(900, 600, scale)
    show(tab, viz.head_view(viz.AttentionMaps(np.eye(count)[None])), tmp_path)
    assert tab.evaluate("document.querySelector('canvas').clientHeight") == count * ROW
    tab.evaluate(f"document.querySelectorAll('.keys button')[{last}].scrollIntoView({{block: 'center'}})")
    left, top, width, _ = tab.place("canvas")
    image = tab.pixels()
    column = np.abs(image[:, round(scale * (left + width / 2))] - 1).max(-1)
    middle = round(scale * (top + ROW * (last + 0.5)))
    assert column[middle - 8 : middle + 8].max() > 0.2
    assert column[middle + 18 : middle + 34].max() < 0.1  # between this row and the next
    # The controls stay where they are seen.
    assert tab.evaluate("document.querySelector('.controls').getBoundingClientRect().top") == 0


def views_in_a_notebook(views: Sequence[viz.HeadView]) -> str:
    cells = "".join(f"<div>{view._repr_html_()}</div>" for view in views)
    return f"<!doctype html><title>{html.escape('A notebook')}</title><body style='margin: 0'>{cells}"


def test_two_views_in_a_notebook(tab: Page, tmp_path: Path) -> None:
    """Each in its frame: a click in one changes nothing in the other."""
    tab.resize(900, 800)
    show(tab, viz.head_view(MAPS), tmp_path)
    left, top, width, height = tab.place(".chips button", 1)
    path = tmp_path / "notebook.html"
    path.write_text(views_in_a_notebook([viz.head_view(MAPS, title="1"), viz.head_view(MAPS, title="2")]))
    tab.open(path)
    before = tab.pixels()
    middle = round(tab.place("iframe", 1)[1])
    assert (before[:middle] < 0.9).sum() > 1000
    assert (before[middle:] < 0.9).sum() > 1000
    for kind in ("mousePressed", "mouseReleased"):
        tab.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=left + width / 2,
            y=top + height / 2,
            button="left",
            clickCount=1,
        )
    tab.evaluate("new Promise((resolve) => setTimeout(resolve, 200))")
    after = tab.pixels()
    np.testing.assert_array_equal(before[middle:], after[middle:])
    canvas = slice(middle // 2, middle)
    assert (after[canvas] < 0.9).any(-1).sum() < 0.9 * (before[canvas] < 0.9).any(-1).sum()
    assert tab.complaints() == []
