"""The optional packages that `attnlib.models` and the command line need."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(name: str) -> ModuleType:
    """Import a package of the extra ``models``.

    Raises
    ------
    ImportError
        If it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(
            f'attnlib.models: the package {name} is needed; install it with: pip install "attnlib[models]"',
            name=name,
        ) from None
