"""Plain NumPy, written by one who cares for speed: in place where easy, products by its BLAS.

NumPy has no erf: that is SciPy's, without which there is no exact GELU.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from attnlib.benchmark.engines.engine import Array, Engine

try:
    from scipy.special import erf
except ImportError:
    erf = None

__all__ = ["ENGINE"]


class NumPy(Engine):
    """NumPy with the BLAS that it comes with, whose threads the environment limits."""

    name = "NumPy"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self.simple = {
            "matmul": np.matmul,
            "attention": _attention,
            "attention_varlen": _attention_varlen,
            "merge_attention": _merge_attention,
            "softmax": lambda x: _softmax(x.copy()),
            "log_softmax": _log_softmax,
            "layer_norm": _layer_norm,
            "rms_norm": _rms_norm,
            "rotary_embedding": _rotary_embedding,
            "swiglu": lambda gate, up: np.multiply(up, silu := _silu(gate), out=silu),
            **_ACTIVATIONS,
            "linear": _linear,
            "lstm": _lstm,
        }
        if erf is not None:
            self.simple |= {
                "gelu": _gelu,
                "encoder_layer": _encoder_layer,
                "speech_front_end": _speech_front_end,
            }

    @property
    def version(self) -> str:
        return str(np.__version__)


def _sigmoid(x: Array) -> Array:
    result: Array = np.exp(-x)
    result += 1
    return np.reciprocal(result, out=result)


def _silu(x: Array) -> Array:
    result = _sigmoid(x)
    result *= x
    return result


def _gelu(x: Array) -> Array:
    result: Array = x * np.float32(0.5**0.5)
    erf(result, out=result)
    result += 1
    result *= x
    result *= np.float32(0.5)
    return result


def _gelu_tanh(x: Array) -> Array:
    result = x * x
    result *= np.float32(0.044715)
    result += 1
    result *= x
    result *= np.float32((2 / np.pi) ** 0.5)
    np.tanh(result, out=result)
    result += 1
    result *= x
    result *= np.float32(0.5)
    return result


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu_tanh": _gelu_tanh,
    "silu": _silu,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
}


def _softmax(scores: Array) -> Array:
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores


def _log_softmax(x: Array) -> Array:
    result: Array = x - x.max(axis=-1, keepdims=True)
    result -= np.log(np.exp(result).sum(axis=-1, keepdims=True))
    return result


def _layer_norm(x: Array, weight: Array, bias: Array) -> Array:
    result: Array = x - x.mean(axis=-1, keepdims=True)
    variance = np.einsum("...d,...d->...", result, result)[..., None] / np.float32(x.shape[-1])
    result /= np.sqrt(variance + np.float32(1e-5))
    result *= weight
    result += bias
    return result


def _rms_norm(x: Array, weight: Array) -> Array:
    square = np.einsum("...d,...d->...", x, x)[..., None] / np.float32(x.shape[-1])
    result: Array = x / np.sqrt(square + np.float32(1e-5))
    result *= weight
    return result


def _rotary_embedding(x: Array, cos: Array, sin: Array) -> Array:
    half = x.shape[-1] // 2
    first, second = x[..., :half], x[..., half:]
    result = np.empty_like(x)
    np.subtract(first * cos, second * sin, out=result[..., :half])
    np.add(second * cos, first * sin, out=result[..., half:])
    return result


def _linear(x: Array, weight: Array, bias: Array, activation: str | None = None) -> Array:
    result: Array = x @ weight.T
    result += bias
    if activation == "gelu":
        return _gelu(result)
    return _ACTIVATIONS[activation](result) if activation else result


def _attention(query: Array, key: Array, value: Array, causal: bool = False) -> Array:
    shape, groups = query.shape, key.shape[-3]
    if groups != shape[-3]:  # heads that share keys are rows of one product
        query = query.reshape(*shape[:-3], groups, -1, shape[-1])
    scores = (query * np.float32(shape[-1] ** -0.5)) @ key.swapaxes(-1, -2)
    if causal:
        hidden = np.tri(shape[-2], key.shape[-2], dtype=np.bool_) == 0
        np.copyto(scores.reshape(*shape[:-1], -1), -np.inf, where=hidden)
    result: Array = _softmax(scores) @ value
    return result.reshape(shape)


def _attention_varlen(query: Array, key: Array, value: Array, cu_seqlens: Array) -> Array:
    result = np.empty_like(query)
    for start, stop in pairwise(cu_seqlens):
        one = (array[start:stop].swapaxes(0, 1) for array in (query, key, value))
        result[start:stop] = _attention(*one).swapaxes(0, 1)
    return result


def _merge_attention(outs: Array, lses: Array) -> Array:
    weights = _softmax(np.moveaxis(lses, 0, -1).copy())
    result: Array = np.einsum("nhsd,hsn->hsd", outs, weights)
    return result


def _encoder_layer(x: Array, state: dict[str, Array], heads: int) -> Array:
    batch, length, size = x.shape
    qkv = _linear(x, state["self_attn.in_proj_weight"], state["self_attn.in_proj_bias"])
    query, key, value = qkv.reshape(batch, length, 3, heads, size // heads).transpose(2, 0, 3, 1, 4)
    context = _attention(query, key, value).swapaxes(1, 2).reshape(batch, length, size)
    attended = _linear(context, state["self_attn.out_proj.weight"], state["self_attn.out_proj.bias"])
    attended += x
    hidden = _layer_norm(attended, state["norm1.weight"], state["norm1.bias"])
    inner = _linear(hidden, state["linear1.weight"], state["linear1.bias"], "gelu")
    result = _linear(inner, state["linear2.weight"], state["linear2.bias"])
    result += hidden
    return _layer_norm(result, state["norm2.weight"], state["norm2.bias"])


def _lstm(x: Array, state: dict[str, Array]) -> Array:
    projected = _linear(x, state["weight_ih_l0"], state["bias_ih_l0"] + state["bias_hh_l0"])
    weight = np.ascontiguousarray(state["weight_hh_l0"].T)
    result = np.empty((*x.shape[:2], len(weight)), np.float32)
    hidden, cell = np.zeros_like(result[:, 0]), np.zeros_like(result[:, 0])
    for step in range(x.shape[1]):
        gates = hidden @ weight
        gates += projected[:, step]
        taken, kept, new, shown = np.split(gates, 4, axis=-1)
        cell *= _sigmoid(kept)
        cell += _sigmoid(taken) * np.tanh(new)
        hidden = _sigmoid(shown) * np.tanh(cell)
        result[:, step] = hidden
    return result


def _speech_front_end(x: Array, state: dict[str, Array]) -> Array:
    for name, stride in (("conv1", 1), ("conv2", 2)):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1)))
        frames = np.lib.stride_tricks.sliding_window_view(padded, 3, axis=2)[:, :, ::stride]
        rows = frames.swapaxes(1, 2).reshape(len(x), -1, weight[0].size)
        x = _gelu(_linear(rows, weight.reshape(len(weight), -1), bias)).swapaxes(1, 2)
    return x


ENGINE = NumPy
