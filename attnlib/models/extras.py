"""The optional packages that `attnlib.models`, `attnlib.viz` and the command line need."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(name: str, *, extra: str = "models") -> ModuleType:
    """Import a package of an extra, or a module of one.

    Parameters
    ----------
    name
        Such as ``"tokenizers"`` or ``"matplotlib.pyplot"``.
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
        package = name.partition(".")[0]
        if error.name not in (package, name):
            raise
        raise ImportError(
            f"attnlib.{extra}: the package {package} is needed; "
            f'install it with: pip install "attnlib[{extra}]"',
            name=package,
        ) from None
