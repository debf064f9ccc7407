"""The libraries that are compared, one module each; attnlib is one of them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it loads NumPy, whose BLAS must know its threads by then
    from engines.engine import Engine

__all__ = ["NAMES", "Unavailable", "load"]

# In the order of the table's columns.
_MODULES = {
    "attnlib": "engines.with_attnlib",
    "NumPy": "engines.with_numpy",
    "PyTorch": "engines.with_torch",
    "ONNX Runtime": "engines.with_onnxruntime",
}
NAMES = tuple(_MODULES)


class Unavailable(Exception):
    """An engine is not installed."""


def load(name: str, threads: int) -> Engine:
    """Load an engine and have it use so many threads.

    Raises
    ------
    Unavailable
        If it is not installed.
    """
    try:
        module = importlib.import_module(_MODULES[name])
    except ImportError as error:
        raise Unavailable(f"{name}: {error}") from None
    engine: Engine = module.ENGINE(threads)
    return engine
