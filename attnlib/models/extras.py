"""The optional packages that `attnlib.models` and the command line need."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(name: str, *, extra: str = "models") -> ModuleType:
    """Import a package of an extra.

    Parameters
    ----------
    name
        The package.
    extra
        The extra of attnlib that brings it. Default ``"models"``.

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
            f'attnlib.models: the package {name} is needed; install it with: pip install "attnlib[{extra}]"',
            name=name,
        ) from None
