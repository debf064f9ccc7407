"""What the package says about itself hangs together: versions of Python, extras, licenses, its version."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path

import pytest

import attnlib as al

ROOT = Path(__file__).parent.parent
tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
# Newest last. A new Python needs a classifier, and a row in cibuildwheel's list.
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
FREE_THREADED = ("3.13", "3.14")


def test_versions_of_python() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    prefix = "Programming Language :: Python :: 3."
    named = [line.removeprefix(prefix) for line in PROJECT["classifiers"] if line.startswith(prefix)]
    assert [f"3.{minor}" for minor in named] == list(PYTHONS)
    wheels = PYPROJECT["tool"]["cibuildwheel"]["build"].split()
    expected = [f"cp{python}-*" for python in PYTHONS] + [f"cp{python}t-*" for python in FREE_THREADED]
    assert sorted(wheels) == sorted(word.replace("3.", "3") for word in expected)


def test_extras_that_messages_name() -> None:
    """`pip install "attnlib[name]"` in an error, a docstring or another extra installs something."""
    extras = PROJECT["optional-dependencies"]
    texts = [path.read_text(encoding="utf-8") for path in Path(al.__file__).parent.rglob("*.py")]
    named = re.findall(r"attnlib\[([a-z, ]+)\]", " ".join([*texts, str(extras)]))
    assert named
    assert {name.strip() for group in named for name in group.split(",")} <= set(extras)


def test_the_core_needs_two_packages() -> None:
    names = {re.split(r"[^\w-]", line, maxsplit=1)[0] for line in PROJECT["dependencies"]}
    assert names == {"numpy", "ml_dtypes"}


def test_license_files() -> None:
    """GCC's runtime libraries go into the wheels, so their licenses do."""
    found = {path.name for pattern in PROJECT["license-files"] for path in ROOT.glob(pattern)}
    assert {"LICENSE", "GPL-3.0.txt", "GCC-exception-3.1.txt"} <= found


def test_one_version_number() -> None:
    cmake = re.search(
        r"project\(attnlib VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    )
    assert cmake is not None
    assert cmake[1] == PROJECT["version"] == al.__version__


def test_what_is_installed() -> None:
    """The installed package has its types and its .pxd, and neither sources nor tests."""
    try:
        files = metadata.files("attnlib")
    except metadata.PackageNotFoundError:
        pytest.skip("attnlib is imported from a source tree here")
    names = {str(file) for file in files or () if "__pycache__" not in str(file)}
    assert {"attnlib/py.typed", "attnlib/_core.pyi", "attnlib/cython_api.pxd"} <= names
    for name in names:
        assert not name.endswith((".cpp", ".hpp", ".pyx", ".o", ".a")), name
        assert name.startswith(("attnlib", "../")), name
