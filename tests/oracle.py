"""The operations of attnlib once more, in float64 and plain NumPy, as slowly and as literally as possible.

This file imports nothing of attnlib. Every function takes arrays of any float dtype, works in float64 and
returns float64; the tests round with the tolerances of `tolerance.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Float = NDArray[np.float64]

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def float64(x: ArrayLike) -> Float:
    """`x` as float64; every float dtype of attnlib converts exactly."""
    return np.asarray(x).astype(np.float64)


# --- elementwise --------------------------------------------------------------------------------


def relu(x: ArrayLike) -> Float:
    return np.maximum(float64(x), 0.0)


def gelu(x: ArrayLike, approximate: str = "none") -> Float:
    """x Phi(x), the exact GELU, or its tanh form (Hendrycks and Gimpel, 2016)."""
    x = float64(x)
    if approximate == "tanh":
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * _erfc(-x / math.sqrt(2.0)) if x.size else x  # erfc: 1 + erf would cancel on the left


def sigmoid(x: ArrayLike) -> Float:
    x = float64(x)
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1.0 / (1.0 + small), small / (1.0 + small))


def silu(x: ArrayLike) -> Float:
    return float64(x) * sigmoid(x)


def tanh(x: ArrayLike) -> Float:
    return np.tanh(float64(x))


def swiglu(gate: ArrayLike, up: ArrayLike) -> Float:
    """silu(gate) * up (Shazeer, 2020)."""
    return silu(gate) * float64(up)


def activate(x: ArrayLike, activation: str | None) -> Float:
    """The activation of `linear` that has this name."""
    match activation:
        case None:
            return float64(x)
        case "relu":
            return relu(x)
        case "gelu":
            return gelu(x)
        case "gelu_tanh":
            return gelu(x, "tanh")
        case "silu":
            return silu(x)
        case "tanh":
            return tanh(x)
    raise AssertionError(activation)


# --- products and norms --------------------------------------------------------------------------------


def matmul(a: ArrayLike, b: ArrayLike) -> Float:
    return np.matmul(float64(a), float64(b))


def linear(
    x: ArrayLike,
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    activation: str | None = None,
    residual: ArrayLike | None = None,
) -> Float:
    """act(x @ weight.T + bias) + residual."""
    result = float64(x) @ float64(weight).T
    if bias is not None:
        result = result + float64(bias)
    result = activate(result, activation)
    return result if residual is None else result + float64(residual)


def softmax(x: ArrayLike, axis: int = -1, mask: ArrayLike | None = None) -> Float:
    """Fully masked (or all -inf) rows are zeros."""
    x = float64(x)
    if mask is not None:
        x = np.where(mask, x, -np.inf)
    peak = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    exponential = np.exp(x - np.where(peak == -np.inf, 0.0, peak))
    total = np.sum(exponential, axis=axis, keepdims=True)
    return exponential / np.where(total == 0.0, 1.0, total)


def log_softmax(x: ArrayLike, axis: int = -1) -> Float:
    """Rows that are all -inf are zeros, as the contract says."""
    x = float64(x)
    peak = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    empty = peak == -np.inf
    shifted = np.where(empty, 0.0, x - np.where(empty, 0.0, peak))
    total = np.sum(np.exp(shifted), axis=axis, keepdims=True)
    return np.where(empty, 0.0, shifted - np.log(np.where(empty, 1.0, total)))


def layer_norm(
    x: ArrayLike,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
    residual: ArrayLike | None = None,
) -> Float:
    """Ba et al., 2016: the biased variance, eps inside the root."""
    x = float64(x) if residual is None else float64(x) + float64(residual)
    if x.shape[-1] == 0:
        return x
    centred = x - np.mean(x, axis=-1, keepdims=True)
    result = centred / np.sqrt(np.mean(centred**2, axis=-1, keepdims=True) + eps)
    if weight is not None:
        result = result * float64(weight)
    return result if bias is None else result + float64(bias)


def rms_norm(
    x: ArrayLike, weight: ArrayLike | None = None, eps: float = 1e-5, residual: ArrayLike | None = None
) -> Float:
    """Zhang and Sennrich, 2019."""
    x = float64(x) if residual is None else float64(x) + float64(residual)
    if x.shape[-1] == 0:
        return x
    result = x / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + eps)
    return result if weight is None else result * float64(weight)


# --- positions --------------------------------------------------------------------------------


def rotary_tables(max_position: int, features: int, base: float = 10000.0) -> tuple[Float, Float]:
    """cos and sin (max_position, features / 2) of Su et al., 2021."""
    frequency = base ** (-np.arange(0, features, 2) / max(features, 1))
    angle = np.arange(max_position)[:, None] * frequency
    return np.cos(angle), np.sin(angle)


def rotary_embedding(
    x: ArrayLike,
    cos: ArrayLike,
    sin: ArrayLike,
    positions: ArrayLike | None = None,
    interleaved: bool = False,
) -> Float:
    """Turn pairs of features: (i, i + R/2), or (2i, 2i + 1) when interleaved; the rest passes through."""
    result, cos, sin = float64(x).copy(), float64(cos), float64(sin)
    if cos.ndim == 2:
        rows = np.arange(result.shape[-2]) if positions is None else np.asarray(positions)
        cos, sin = cos[rows], sin[rows]
    if cos.ndim == 3:  # (B, S, R/2): one more axis for the heads
        cos, sin = cos[:, None], sin[:, None]
    half = cos.shape[-1]
    if interleaved:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    else:
        first, second = slice(0, half), slice(half, 2 * half)
    a, b = result[..., first].copy(), result[..., second].copy()
    result[..., first] = a * cos - b * sin
    result[..., second] = b * cos + a * sin
    return result


def sinusoidal_encoding(length: int, dim: int, base: float = 10000.0) -> Float:
    """Vaswani et al., 2017: sin at even features, cos at odd ones."""
    result = np.zeros((length, dim))
    for feature in range(dim):
        angle = np.arange(length) / base ** ((feature - feature % 2) / dim)
        result[:, feature] = np.cos(angle) if feature % 2 else np.sin(angle)
    return result


# --- attention --------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionResult:
    """What attention returns and what its error bounds are made of."""

    output: Float  # (..., H, Sq, Dv)
    weights: Float  # (..., H, Sq, Sk)
    lse: Float  # (..., H, Sq)
    scores: Float  # (..., H, Sq, Sk), -inf where removed
    magnitude: Float  # (..., H, Sq, Sk), the sum of the magnitudes of the terms that make a score
    values: Float  # (..., H, Sk, Dv), with the rows that nobody may read set to zero


def attention(
    query: ArrayLike,
    key: ArrayLike,
    value: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    causal: bool = False,
    window: tuple[int | None, int | None] | None = None,
    query_offset: ArrayLike | None = None,
    key_lengths: ArrayLike | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    alibi_slopes: ArrayLike | None = None,
    sinks: ArrayLike | None = None,
) -> AttentionResult:
    """Scaled dot-product attention; arguments and the order of the steps as in the contract of attnlib."""
    query, key, value = float64(query), float64(key), float64(value)
    one_head = query.ndim == 2
    if one_head:
        query, key, value = query[None], key[None], value[None]
    heads, queries, features = query.shape[-3:]
    groups, keys = key.shape[-3:-1]
    batch = np.broadcast_shapes(query.shape[:-3], key.shape[:-3], value.shape[:-3])
    repeats = heads // groups if groups else 0
    key = np.broadcast_to(np.repeat(key, repeats, axis=-3), (*batch, heads, keys, features))
    value = np.broadcast_to(np.repeat(value, repeats, axis=-3), (*batch, heads, keys, value.shape[-1]))
    query = np.broadcast_to(query, (*batch, heads, queries, features))
    full = (*batch, heads, queries, keys)

    def per_batch(x: ArrayLike) -> Array:
        return np.broadcast_to(np.asarray(x).astype(np.int64), batch)[..., None, None, None]

    def per_head(x: ArrayLike) -> Float:
        return float64(x)[:, None, None]

    valid = per_batch(keys if key_lengths is None else key_lengths)
    offset = valid - queries if query_offset is None else per_batch(query_offset)
    position = offset + np.arange(queries)[:, None]
    j = np.arange(keys)

    with np.errstate(invalid="ignore", over="ignore"):
        scale = scale if scale is not None else (features**-0.5 if features else 1.0)
        scores = (query @ np.swapaxes(key, -1, -2)) * scale
        magnitude = (np.abs(query) @ np.swapaxes(np.abs(key), -1, -2)) * abs(scale)
        if softcap is not None:
            scores = softcap * np.tanh(scores / softcap)
        if bias is not None:
            scores = scores + float64(bias)
            magnitude = magnitude + np.abs(float64(bias))
        if alibi_slopes is not None:
            distance = per_head(alibi_slopes) * np.abs(position - j)
            scores = scores - distance
            magnitude = magnitude + np.abs(distance)

        allowed = np.broadcast_to(j < valid, full)
        if mask is not None:
            allowed = allowed & np.asarray(mask)
        if causal:
            allowed = allowed & (j <= position)
        if window is not None:
            left, right = window
            if left is not None:
                allowed = allowed & (position - left <= j)
            if right is not None:
                allowed = allowed & (j <= position + right)
        if bias is not None:
            allowed = allowed & (float64(bias) != -np.inf)
        scores = np.where(allowed, scores, -np.inf)
        unread = ~allowed.any(axis=-2)
        values = np.where(unread[..., None], 0.0, value)

        peak = np.max(scores, axis=-1, keepdims=True, initial=-np.inf)
        empty = peak == -np.inf
        sink = None if sinks is None else per_head(sinks)
        peak = peak if sink is None else np.maximum(peak, sink)
        peak = np.where(empty, 0.0, peak)
        exponential = np.exp(scores - peak)
        total = np.sum(exponential, axis=-1, keepdims=True)
        if sink is not None:
            total = total + np.exp(np.where(empty, 0.0, sink - peak))
        total = np.where(empty, 1.0, total)
        weights = exponential / total
        output = weights @ values
        lse = np.where(empty, -np.inf, np.log(total) + peak)[..., 0]

    magnitude = np.broadcast_to(magnitude, full)
    parts = (output, weights, lse, scores, magnitude, values)
    return AttentionResult(*(part[0] for part in parts)) if one_head else AttentionResult(*parts)


def attention_varlen(
    query: Array,
    key: Array,
    value: Array,
    cu_seqlens_q: Array,
    cu_seqlens_k: Array | None = None,
    **options: Any,
) -> list[AttentionResult]:
    """One result (H, Lq, ...) for each of the sequences packed in query (Tq, H, D), key, value (Tk, G, .)."""
    cu_seqlens_k = cu_seqlens_q if cu_seqlens_k is None else cu_seqlens_k
    results = []
    for n in range(len(cu_seqlens_q) - 1):
        q = query[cu_seqlens_q[n] : cu_seqlens_q[n + 1]]
        k, v = (x[cu_seqlens_k[n] : cu_seqlens_k[n + 1]] for x in (key, value))
        results.append(attention(*(np.swapaxes(x, 0, 1) for x in (q, k, v)), **options))
    return results


def merge_attention(outs: Sequence[ArrayLike], lses: Sequence[ArrayLike]) -> tuple[Float, Float]:
    """Join partial results over disjoint sets of keys, weighing each by the exponential of its lse."""
    out, lse = np.stack([float64(x) for x in outs]), np.stack([float64(x) for x in lses])
    peak = np.max(lse, axis=0)
    finite = np.where(peak == -np.inf, 0.0, peak)
    share = np.exp(lse - finite)
    total = np.sum(share, axis=0)
    empty = total == 0.0
    total = np.where(empty, 1.0, total)
    # A part without keys has weight zero, and what its output holds does not count.
    parts = np.where(share[..., None] == 0.0, 0.0, out) * share[..., None]
    return np.sum(parts, axis=0) / total[..., None], np.where(empty, -np.inf, np.log(total) + finite)


def lstm_steps(
    projected: ArrayLike,
    weight: ArrayLike,
    hidden: ArrayLike,
    cell: ArrayLike,
    output: ArrayLike | None = None,
    backwards: bool = False,
) -> tuple[Float, Float]:
    """Hidden states (B, S, H) of an LSTM and its last cell; `projected` is what inputs add to the gates."""
    projected, weight, hidden, cell = map(float64, (projected, weight, hidden, cell))
    out = np.empty((*projected.shape[:2], hidden.shape[1]))
    for step in range(projected.shape[1])[:: -1 if backwards else 1]:
        taken, kept, new, shown = np.split(projected[:, step] + hidden @ weight.T, 4, axis=-1)
        cell = sigmoid(kept) * cell + sigmoid(taken) * np.tanh(new)
        hidden = sigmoid(shown) * np.tanh(cell)
        if output is not None:
            hidden = hidden @ float64(output).T
        out[:, step] = hidden
    return out, cell
