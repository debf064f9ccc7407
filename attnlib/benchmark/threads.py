"""The number of threads of everything that is measured: through the environment, before any of it is loaded.

This file imports nothing of attnlib, so that it can also be run by itself before attnlib loads NumPy
(``bench/conftest.py`` does).
"""

from __future__ import annotations

import os
import sys

__all__ = ["limit_threads", "thread_environment"]

# Read on loading by OpenBLAS (NumPy), OpenMP (attnlib, PyTorch, CTranslate2), MKL and Rayon (the tokenizers).
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def thread_environment(threads: int) -> dict[str, str]:
    """Return the variables that limit every library to so many threads, and keep it off the network."""
    return {
        **dict.fromkeys(_VARIABLES, str(threads)),
        "TOKENIZERS_PARALLELISM": "false" if threads == 1 else "true",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }


def limit_threads(threads: int) -> None:
    """Limit every library that this process loads from now on.

    Raises
    ------
    RuntimeError
        If NumPy is loaded already: its BLAS has read the environment by then.
    """
    if "numpy" in sys.modules:
        raise RuntimeError("limit_threads must come before the first import of NumPy")
    os.environ.update(thread_environment(threads))
