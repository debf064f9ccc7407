"""The libraries that are compared, one module each; attnlib is one of them."""

from __future__ import annotations

import importlib

from attnlib.benchmark.engines.engine import Engine

__all__ = ["NAMES", "OURS", "PLAIN", "Unavailable", "load"]

OURS = "attnlib"
PLAIN = "NumPy"

# In the order of the table's columns.
_MODULES = {
    OURS: "with_attnlib",
    PLAIN: "with_numpy",
    "PyTorch": "with_torch",
    "ONNX Runtime": "with_onnxruntime",
    "OpenVINO": "with_openvino",
    "CTranslate2": "with_ctranslate2",
    "llama.cpp": "with_llama_cpp",
    "simd-ml-kernels": "with_simd_ml_kernels",
}
NAMES = tuple(_MODULES)


class Unavailable(Exception):
    """An engine is not installed, or cannot run so."""


def load(name: str, threads: int) -> Engine:
    """Load an engine and have it use so many threads.

    Raises
    ------
    Unavailable
        If it is not installed, or has no such number of threads.
    """
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[name]}")
    except ImportError as error:
        raise Unavailable(f"{name}: {error}") from None
    engine: type[Engine] = module.ENGINE
    if engine.most_threads is not None and threads > engine.most_threads:
        raise Unavailable(f"{name}: runs on {engine.most_threads} thread alone")
    return engine(threads)
