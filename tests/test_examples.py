"""The examples in docstrings and in the README."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import attnlib as al

MODULES = ["attnlib", *(module.name for module in pkgutil.walk_packages(al.__path__, "attnlib."))]
# Run as a program; not built; or want peers that a user, and this suite, need not have.
LEFT_OUT = (
    "attnlib.__main__",
    "attnlib.cuda",
    "attnlib.benchmark.engines.with_",
    "attnlib.benchmark.engines.onnx_models",
)


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith(LEFT_OUT)])
def test_docstrings(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


def test_readme() -> None:
    """Its first Python example; the later ones want PyTorch and a checkpoint."""
    text = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    first = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0]
    names: dict[str, object] = {}
    exec(first, names)
    assert getattr(names["out"], "shape", None) == (2, 128, 768)
