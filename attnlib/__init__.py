"""Transformer inference for NumPy on CPU servers: fused kernels on plain arrays.

>>> import numpy as np, attnlib as al
>>> query = np.random.default_rng(0).standard_normal((1, 12, 128, 64), np.float32)
>>> al.attention(query, query, query, causal=True).shape
(1, 12, 128, 64)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from attnlib import functional, nn
from attnlib.dlpack import from_dlpack, to_dlpack
from attnlib.functional import (
    PackedWeight,
    attention,
    attention_varlen,
    gelu,
    layer_norm,
    linear,
    load_packed,
    log_softmax,
    matmul,
    merge_attention,
    pack_weight,
    relu,
    rms_norm,
    rotary_embedding,
    save_packed,
    sigmoid,
    silu,
    sinusoidal_encoding,
    softmax,
    swiglu,
    tanh,
)
from attnlib.runtime import (
    Dispatch,
    available_isas,
    get_num_threads,
    isa,
    last_dispatch,
    num_threads,
    set_num_threads,
    show_config,
    trim,
)

if TYPE_CHECKING:
    from attnlib import compat, models, viz

__version__ = "0.1.0"

__all__ = [
    "Dispatch",
    "PackedWeight",
    "attention",
    "attention_varlen",
    "available_isas",
    "compat",
    "from_dlpack",
    "functional",
    "gelu",
    "get_num_threads",
    "isa",
    "last_dispatch",
    "layer_norm",
    "linear",
    "load_packed",
    "log_softmax",
    "matmul",
    "merge_attention",
    "models",
    "nn",
    "num_threads",
    "pack_weight",
    "relu",
    "rms_norm",
    "rotary_embedding",
    "save_packed",
    "set_num_threads",
    "show_config",
    "sigmoid",
    "silu",
    "sinusoidal_encoding",
    "softmax",
    "swiglu",
    "tanh",
    "to_dlpack",
    "trim",
    "viz",
]


def __getattr__(name: str) -> Any:
    # Loaded when first asked for: importing attnlib beside NumPy stays cheap.
    if name in ("compat", "models", "viz"):
        return importlib.import_module(f"attnlib.{name}")
    raise AttributeError(f"module 'attnlib' has no attribute {name!r}")
