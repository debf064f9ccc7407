"""The tutorial: every example of every page gives what is printed there, and the pages are tied together."""

from __future__ import annotations

import doctest
import re
from itertools import pairwise
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parent.parent / "docs" / "tutorial"
PAGES = sorted(TUTORIAL.glob("[0-9][0-9]-*.md"))
FENCE = re.compile(r"^```pycon\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def examples(page: Path) -> doctest.DocTest:
    """Make one doctest of a page's blocks; other lines become empty, so that line numbers are right."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * text.count("\n")
    for block in FENCE.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return doctest.DocTestParser().get_doctest("\n".join(lines) + "\n", {}, page.name, str(page), 0)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples(page: Path) -> None:
    test = examples(page)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.failed == 0, "".join(report)
    run = [example for example in test.examples if doctest.SKIP not in example.options]
    assert len(run) >= 10, "a page of the tutorial shows by running"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_code_is_outside_the_doctests(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"^```(\w*)$", text, re.MULTILINE)) <= {"pycon", "text", "sh", ""}
    assert len(re.findall(r"^>>> ", text, re.MULTILINE)) == len(examples(page).examples)


@pytest.mark.parametrize("page", [TUTORIAL / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_resolve(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("https://", "#")):
            name, _, anchor = target.partition("#")
            path = page.parent / name
            assert path.exists(), f"{page.name} links to {target}, which is not there"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
                slugs = [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]
                assert anchor in slugs, f"{page.name} links to {target}: no such heading"


def test_pages_are_one_path() -> None:
    """The map lists every page, in order, and every page leads to the next."""
    assert [page.name[:2] for page in PAGES] == [f"{number:02}" for number in range(1, len(PAGES) + 1)]
    listed = LINK.findall((TUTORIAL / "README.md").read_text(encoding="utf-8"))
    pages = [page.name for page in PAGES]
    assert [target for target in listed if target in pages] == pages
    for page, following in pairwise(pages):
        assert following in LINK.findall((TUTORIAL / page).read_text(encoding="utf-8"))
