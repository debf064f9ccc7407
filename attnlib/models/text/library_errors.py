"""What the library ``tokenizers`` raises: exceptions of no narrower kind, and panics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["library_errors"]


@contextmanager
def library_errors(what: str, *passed: type[Exception]) -> Iterator[None]:
    """Make ValueErrors that begin with `what` of what the library raises, but for exceptions of `passed`.

    A panic, such as a broken vocabulary leads to, is no `Exception` in Python, so that it would go through
    every handler of a server.
    """
    try:
        yield
    except passed:
        raise
    except Exception as error:
        raise ValueError(f"{what}: {error}") from None
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"{what}: the library tokenizers gave up: {error}") from None
