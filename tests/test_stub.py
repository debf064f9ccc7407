"""The stub of the native module agrees with the module.

stubtest compares what exists; the parameters of pybind11's functions it cannot see, since they stand nowhere
but in the first line of each docstring.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

from attnlib import _core

STUB = ast.parse(Path(_core.__file__).with_name("_core.pyi").read_text(encoding="utf-8"))
FUNCTIONS = {node.name: node for node in STUB.body if isinstance(node, ast.FunctionDef)}


def parameters(function: ast.FunctionDef) -> list[tuple[str, Any]]:
    """Names in order, each with its default, or with ... if it has none."""
    names = [argument.arg for argument in function.args.args]
    defaults = [ast.literal_eval(default) for default in function.args.defaults]
    return list(zip(names, [...] * (len(names) - len(defaults)) + defaults, strict=True))


def test_same_functions() -> None:
    members = {name: member for name, member in vars(_core).items() if not name.startswith("_")}
    assert set(FUNCTIONS) == {name for name in members if not isinstance(members[name], type | int)}


def test_same_numbers() -> None:
    declared = {node.target.id for node in STUB.body if isinstance(node, ast.AnnAssign)} - {"_c_api"}  # type: ignore[union-attr]
    assert declared == {name for name, member in vars(_core).items() if isinstance(member, int)}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_same_parameters(name: str) -> None:
    signature = getattr(_core, name).__doc__.splitlines()[0]
    (native,) = ast.parse(f"def {signature}: ...").body
    assert isinstance(native, ast.FunctionDef)
    assert parameters(FUNCTIONS[name]) == parameters(native)
