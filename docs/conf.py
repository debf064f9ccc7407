"""How Sphinx makes the site: ``sphinx-build -W --keep-going docs build/site``. It wants attnlib installed."""

import os.path
import re
from pathlib import Path
from typing import Any

import attnlib

project = "attnlib"
author = "the attnlib developers"
copyright = "2026, the attnlib developers"
release = version = attnlib.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
html_theme = "furo"
html_title = f"attnlib {release}"
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings tell types with their shapes
numpydoc_show_class_members = False
autosummary_generate = False
# Its docstrings are in Python; the native module behind it is not built without -DATTNLIB_CUDA=ON.
autodoc_mock_imports = ["attnlib.cuda._cuda"]

# Pages whose text is a file of the repository that has its place elsewhere.
ELSEWHERE = {
    "index": "README.md",
    "benchmarks": "bench/README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "examples": "examples/README.md",
    "security": "SECURITY.md",
}
ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def read_page(app: Any, page: str, source: list[str]) -> None:
    """Put the files of the repository in their places, and make links among them links among pages.

    A link to a file that is no page becomes its text. One to a missing file stays, and Sphinx complains.
    """
    path = ROOT / ELSEWHERE.get(page, f"docs/{page}.md")
    text = path.read_text(encoding="utf-8")
    if page == "index":
        text += source[0]

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], os.path.normpath(path.parent / match[2]), match[3] or ""
        name = Path(target).relative_to(ROOT).as_posix()
        for other, file in ELSEWHERE.items():
            if name == file:
                name = f"docs/{other}.md"
        if name.startswith("docs/"):
            there = os.path.relpath(ROOT / name, (ROOT / "docs" / page).parent)
            return f"[{words}]({there}{anchor})"
        return words if Path(target).exists() else match[0]

    source[0] = LINK.sub(link, text)


def setup(app: Any) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("source-read", read_page)
