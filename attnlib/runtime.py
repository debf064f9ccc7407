"""Threads, instruction sets and what this build is made of."""

from __future__ import annotations

import contextlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, overload

import ml_dtypes
import numpy as np

from attnlib import _core

__all__ = [
    "Dispatch",
    "available_isas",
    "get_num_threads",
    "isa",
    "last_dispatch",
    "num_threads",
    "set_num_threads",
    "show_config",
    "trim",
]


@dataclass(frozen=True)
class Dispatch:
    """What a call did; see `last_dispatch`.

    Attributes
    ----------
    operation : str
        The name of the operation.
    rung : str
        The instruction set, as `isa` names it.
    kernel : str
        Which arithmetic: ``"bfloat16 dot product"``, say.
    plan : str
        How the work was laid out: from a packed weight, with the matrix packed on the way, tile by tile.
    threads : int
        How many threads took part.
    workspace_bytes : int
        Bytes of scratch memory that the calling thread used at once, kept for the next call.
    notes : tuple of str
        Why a slower path was taken: arguments that were copied, and the like.
    """

    operation: str
    rung: str
    kernel: str
    plan: str
    threads: int
    workspace_bytes: int
    notes: tuple[str, ...]


def last_dispatch() -> Dispatch | None:
    """Return what the last operation on this thread did, or None before the first one.

    Every operation records it, at the cost of a few stores.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> _ = al.linear(np.ones((1, 4), np.float32)[:, ::2], np.ones((3, 2), np.float32))
    >>> al.last_dispatch().kernel
    'float32'
    >>> al.last_dispatch().notes
    ('x copied: its last axis is not contiguous',)
    """
    record = _core.last_dispatch()
    return None if record is None else Dispatch(*record)


def get_num_threads() -> int:
    """Return the number of threads that operations may use.

    Until `set_num_threads` is called it is what the process may really use: the CPUs of its affinity mask,
    cut by the quota of its control group and of those around it (``cpu.max`` of version 2,
    ``cpu.cfs_quota_us`` of version 1; 1.5 CPUs are two threads); the environment variable
    ``OMP_NUM_THREADS`` wins over both. It is found out once, when it is first needed.

    Examples
    --------
    >>> import attnlib as al
    >>> al.get_num_threads() >= 1
    True
    """
    return _core.get_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads that operations may use, for the whole process.

    Parameters
    ----------
    n : int
        At least 1. The bits of results do not depend on it.

    Raises
    ------
    TypeError
        If ``n`` is not an integer.
    ValueError
        If ``n`` is less than 1.

    Examples
    --------
    >>> import attnlib as al
    >>> al.set_num_threads(al.get_num_threads())
    """
    _core.set_num_threads(n)


@contextlib.contextmanager
def num_threads(n: int) -> Iterator[None]:
    """Set the number of threads within a ``with`` block and restore it afterwards.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    ValueError
        If ``n`` is less than 1.

    Examples
    --------
    >>> import attnlib as al
    >>> with al.num_threads(1):
    ...     al.get_num_threads()
    1
    """
    before = get_num_threads()
    set_num_threads(n)
    try:
        yield
    finally:
        set_num_threads(before)


def isa() -> str:
    """Return the name of the instruction set (rung) in use.

    The fastest one that this CPU supports, or the one that the environment variable ``ATTNLIB_ISA`` named
    when attnlib was imported.

    Examples
    --------
    >>> import attnlib as al
    >>> al.isa() in al.available_isas()
    True
    """
    return _core.isa()


def available_isas() -> list[str]:
    """Return the names of the instruction sets that are built in and that this CPU supports, slowest first.

    Examples
    --------
    >>> import attnlib as al
    >>> al.available_isas()[0]
    'baseline'
    """
    return _core.available_isas()


def trim() -> int:
    """Give memory that is kept for further calls back to the system.

    Every thread that has computed keeps its scratch memory, some hundred kilobytes to 16 MB, so that the next
    call finds it warm; up to 64 MB that large results were in are kept for the next ones; and glibc keeps
    what was freed. Threads that are in the middle of a call keep theirs. Results do not change, the next
    calls take a little longer. Any thread may call it at any time.

    Returns
    -------
    int
        Bytes by which the resident memory of the process shrank meanwhile, at least 0.

    Examples
    --------
    >>> import attnlib as al
    >>> al.trim() >= 0
    True
    """
    return _core.trim()


@overload
def show_config(mode: Literal["stdout"] = "stdout") -> None: ...


@overload
def show_config(mode: Literal["dicts"]) -> dict[str, Any]: ...


def show_config(mode: Literal["stdout", "dicts"] = "stdout") -> dict[str, Any] | None:
    """Print versions, compiler, instruction sets, threads, OpenMP and CUDA, as `numpy.show_config` does.

    Parameters
    ----------
    mode : {"stdout", "dicts"}
        ``"dicts"``: print nothing and return all of it as a dictionary that JSON can hold.

    Raises
    ------
    ValueError
        If ``mode`` is neither.

    Examples
    --------
    >>> import attnlib as al
    >>> al.show_config()  # doctest: +ELLIPSIS
    attnlib ...
    >>> al.show_config(mode="dicts")["isa"] == al.isa()
    True
    """
    from attnlib import __version__

    if mode not in ("stdout", "dicts"):
        raise ValueError(f"show_config: mode must be 'stdout' or 'dicts', got {mode!r}")
    build = _core.build_info()
    config: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "ml_dtypes": ml_dtypes.__version__,
        "compiler": build["compiler"],
        "build_type": build["build_type"],
        "built_isas": list(_core.built_isas()),
        "available_isas": available_isas(),
        "isa": isa(),
        "threads": get_num_threads(),
        "openmp": build["openmp"],
        "cuda": bool(build["cuda"]),
    }
    if mode == "dicts":
        return config
    rows = {
        "Python": f"{config['python']} ({config['machine']})",
        "NumPy": config["numpy"],
        "ml_dtypes": config["ml_dtypes"],
        "compiler": f"{config['compiler']} ({config['build_type']})",
        "instruction sets built": ", ".join(config["built_isas"]),
        "instruction sets usable": ", ".join(config["available_isas"]),
        "instruction set in use": config["isa"],
        "threads": config["threads"],
        "OpenMP": config["openmp"],
        "CUDA": "yes" if config["cuda"] else "no",
    }
    print(f"attnlib {__version__}")
    for name, value in rows.items():
        print(f"  {name + ':':<25}{value}")
    return None
