"""The number of threads of everything that is measured, set before any of it is imported."""

from __future__ import annotations

import os
import sys

# Read on loading by OpenBLAS (NumPy), OpenMP (attnlib, PyTorch), MKL (PyTorch) and Rayon (the tokenizers).
_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
)


def limit_threads(threads: int) -> None:
    """Limit every library that is imported from now on to `threads` threads.

    Raises
    ------
    ValueError
        If `threads` is not positive.
    RuntimeError
        If NumPy is loaded already: its BLAS has read the environment by then.
    """
    if threads < 1:
        raise ValueError(f"threads must be positive, got {threads}")
    if "numpy" in sys.modules:
        raise RuntimeError("limit_threads must come before the first import of NumPy")
    for name in _VARIABLES:
        os.environ[name] = str(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false" if threads == 1 else "true"
    # Nothing here may look for models on the network.
    os.environ["HF_HUB_OFFLINE"] = "1"
