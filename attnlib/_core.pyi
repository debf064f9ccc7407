# The native module, as bindings/*.cpp define it. `python -m mypy.stubtest attnlib._core` and
# tests/test_stub.py compare the two. What the functions mean is told where the public ones are:
# attnlib.functional and attnlib.runtime.

from collections.abc import Sequence
from typing import Any, TypedDict, type_check_only

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib.functional.decoder_layers import DecoderLayerParts, DecoderLayerPast
from attnlib.functional.encoder_layers import EncoderLayerParts

# A capsule; attnlib/cython_api.pyx unpacks it.
_c_api: object

@type_check_only
class _BuildInfo(TypedDict):
    compiler: str
    build_type: str
    openmp: int
    cuda: bool

class PackedWeight:
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nbytes(self) -> int: ...
    def unpack(self) -> NDArray[Any]: ...
    def rows(self, start: int, stop: int) -> PackedWeight: ...
    def _stored(self) -> tuple[str, int, int, int, int, NDArray[np.uint8]]: ...
    @staticmethod
    def _from_stored(
        format: str,
        out_features: int,
        in_features: int,
        group_size: int,
        panel_width: int,
        copy: bool,
        panels: NDArray[np.uint8],
    ) -> PackedWeight: ...
    def __getstate__(self) -> tuple[Any, ...]: ...
    def __setstate__(self, arg0: tuple[Any, ...], /) -> None: ...

# Where attention changes its plan: kernels/attention_decode.hpp

decode_rows: int
decode_least_keys: int
decode_chunk: int

# Runtime

def isa() -> str: ...
def available_isas() -> list[str]: ...
def built_isas() -> list[str]: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def release_kept_results() -> int: ...
def trim() -> int: ...
def cgroup_cpus(process: str = "/proc/self") -> float | None: ...
def build_info() -> _BuildInfo: ...
def last_dispatch() -> tuple[str, str, str, str, int, int, tuple[str, ...]] | None: ...

# What the active rung can do at most on one core

def ceiling_multiply_add(dtype: str, steps: int) -> float: ...
def ceiling_read(data: ArrayLike, times: int) -> float: ...

# If its elements are 16 bits of one kind, another capsule that calls them the other; else the capsule itself.

def relabel_dlpack(capsule: object, from_code: int, to_code: int) -> object: ...

# Products

def matmul(a: ArrayLike, b: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def linear(
    x: ArrayLike,
    weight: ArrayLike | PackedWeight,
    bias: ArrayLike | None = None,
    activation: str | None = None,
    residual: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def linear_in_parts(
    x: ArrayLike, weights: Sequence[PackedWeight], out: NDArray[Any] | None = None
) -> NDArray[Any]: ...
def pack_weight(
    weight: ArrayLike, dtype: DTypeLike | None = None, group_size: int | None = None
) -> PackedWeight: ...

# Softmax, norms, activations, positions

def softmax(
    x: ArrayLike, axis: int = -1, mask: ArrayLike | None = None, out: NDArray[Any] | None = None
) -> NDArray[Any]: ...
def log_softmax(x: ArrayLike, axis: int = -1, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    residual: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def rms_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    eps: float = 1e-5,
    residual: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...
def relu(x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def silu(x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def tanh(x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def sigmoid(x: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def gelu(x: ArrayLike, approximate: str = "none", out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def swiglu(gate: ArrayLike, up: ArrayLike, out: NDArray[Any] | None = None) -> NDArray[Any]: ...
def rotary_embedding(
    x: ArrayLike,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike | None = None,
    interleaved: bool = False,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...

# Of nn.Embedding, whose name its errors have.

def embedding(x: ArrayLike, weight: ArrayLike) -> NDArray[Any]: ...

# The halves of a Llama layer.

def cached_self_attention(
    x: ArrayLike,
    key_cache: NDArray[Any],
    value_cache: NDArray[Any],
    lengths: ArrayLike,
    norm_weight: ArrayLike | None,
    in_proj: PackedWeight,
    out_proj: PackedWeight,
    heads: int,
    groups: int,
    eps: float,
    in_bias: ArrayLike | None,
    out_bias: ArrayLike | None,
    query_norm: ArrayLike | None,
    key_norm: ArrayLike | None,
    cos: ArrayLike | None,
    sin: ArrayLike | None,
    positions: ArrayLike | None,
    window: int | None,
    scale: float | None,
) -> NDArray[Any]: ...
def gated_feed_forward(
    x: ArrayLike,
    norm_weight: ArrayLike | None,
    gate_up: PackedWeight,
    down: PackedWeight,
    eps: float,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]: ...

# Stacks of layers.

def encoder_layers(
    x: ArrayLike, layers: Sequence[EncoderLayerParts], cu_seqlens: ArrayLike, causal: bool
) -> NDArray[Any]: ...
def decoder_layers(
    x: ArrayLike, layers: Sequence[DecoderLayerParts], pasts: Sequence[DecoderLayerPast]
) -> NDArray[Any]: ...

# Recurrent layers: (out, cell).

def lstm_steps(
    projected: ArrayLike,
    weight: PackedWeight,
    hidden: ArrayLike,
    cell: ArrayLike,
    output_weight: PackedWeight | None = None,
    backwards: bool = False,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]: ...

# Attention: an array, or a tuple (out[, weights][, lse]).

def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    mask: ArrayLike | None,
    bias: ArrayLike | None,
    causal: bool,
    window: tuple[int | None, int | None] | None,
    query_offset: ArrayLike | None,
    key_lengths: ArrayLike | None,
    scale: float | None,
    softcap: float | None,
    alibi_slopes: ArrayLike | None,
    sinks: ArrayLike | None,
    return_weights: bool,
    return_lse: bool,
    out: NDArray[Any] | None,
) -> Any: ...
def attention_varlen(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    cu_seqlens_q: ArrayLike,
    cu_seqlens_k: ArrayLike | None,
    causal: bool,
    window: tuple[int | None, int | None] | None,
    scale: float | None,
    softcap: float | None,
    alibi_slopes: ArrayLike | None,
    sinks: ArrayLike | None,
    return_lse: bool,
    out: NDArray[Any] | None,
) -> Any: ...
def cached_attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    key_cache: NDArray[Any],
    value_cache: NDArray[Any],
    lengths: ArrayLike,
    cos: ArrayLike | None,
    sin: ArrayLike | None,
    positions: ArrayLike | None,
    causal: bool,
    window: int | None,
    scale: float | None,
) -> NDArray[Any]: ...
def merge_attention(outs: ArrayLike, lses: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]: ...
