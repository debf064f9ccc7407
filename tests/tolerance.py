"""How far a result may lie from the float64 oracle: first-order error bounds, derived from eps.

`eps` below is that of the dtype in which the operation accumulates (float32 for float16 and bfloat16). A
result that is then rounded to a narrower dtype gets half a unit in its last place on top, in `assert_within`.
Sums of n random terms err like sqrt(n), not n, whatever the order; the factors in front absorb the order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from arrays import BFLOAT16, FLOAT16, accumulator, epsilon, smallest_normal
from numpy.typing import ArrayLike, NDArray
from oracle import AttentionResult, float64

Array = NDArray[Any]
Float = NDArray[np.float64]


def assert_within(result: Any, exact: ArrayLike, bound: ArrayLike, *, what: str = "result") -> None:
    """Assert |result - exact| <= bound + the rounding of the result's own dtype, element by element.

    NaN is expected where the oracle has NaN and an infinity where it has one (or where the dtype overflows).
    """
    result = np.asarray(result)
    exact = np.asarray(exact, dtype=np.float64)
    bound = np.broadcast_to(np.asarray(bound, dtype=np.float64), exact.shape)
    assert result.shape == exact.shape, f"{what}: shape {result.shape}, expected {exact.shape}"
    if not exact.size:
        return
    found = result.astype(np.float64)
    assert_same_nonfinite(found, exact, result.dtype, what)
    finite = np.isfinite(exact) & np.isfinite(found)
    exact, found, bound = exact[finite], found[finite], bound[finite]
    if not exact.size:
        return
    allowed = bound + rounding(np.abs(exact) + bound, result.dtype)
    error = np.abs(found - exact)
    worst = int(np.argmax(error - allowed))
    excess = int(np.count_nonzero(error > allowed))
    assert excess == 0, (
        f"{what}: {excess} of {error.size} elements out of tolerance; worst: found {found[worst]!r}, "
        f"expected {exact[worst]!r}, error {error[worst]:.3g}, allowed {allowed[worst]:.3g}"
    )


def assert_same_nonfinite(found: Float, exact: Float, dtype: Any, what: str) -> None:
    """NaN and infinities sit where the oracle has them."""
    wrong = np.isnan(found) != np.isnan(exact)
    assert not wrong.any(), (
        f"{what}: {np.count_nonzero(np.isnan(found))} NaN, expected {np.count_nonzero(np.isnan(exact))}; "
        f"first wrong at {tuple(int(i[0]) for i in np.nonzero(wrong))}"
    )
    largest = float(np.finfo(dtype).max) if dtype != BFLOAT16 else 3.3895e38
    overflow = np.abs(exact) > largest
    wrong = np.isinf(found) & ~np.isnan(exact) & ~overflow | np.isinf(exact) & (found != exact)
    assert not wrong.any(), (
        f"{what}: infinities differ, first at {tuple(int(i[0]) for i in np.nonzero(wrong))}"
    )


def rounding(magnitude: Float, dtype: Any) -> Float | float:
    """Half a unit in the last place, for the dtypes narrower than the accumulator."""
    if dtype not in (FLOAT16, BFLOAT16):
        return 0.0
    return 0.5001 * epsilon(dtype) * np.maximum(magnitude, smallest_normal(dtype))


def floor(dtype: Any) -> float:
    """What an exponential that underflows may be off by."""
    return 16 * smallest_normal(accumulator(dtype))


# --- bounds --------------------------------------------------------------------------------


def matmul_bound(a: ArrayLike, b: ArrayLike, eps: float) -> Float:
    """8 eps sqrt(K) (|a| @ |b|), the contract's own figure."""
    a, b = np.abs(float64(a)), np.abs(float64(b))
    return 8 * eps * math.sqrt(a.shape[-1]) * np.matmul(a, b)


def linear_bound(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, residual: ArrayLike | None, eps: float
) -> Float:
    """The product's bound through an activation of slope at most 1.13 and value at most |x|."""
    magnitude = np.abs(float64(x)) @ np.abs(float64(weight)).T
    bound = 8 * eps * math.sqrt(np.shape(x)[-1]) * magnitude
    if bias is not None:
        magnitude = magnitude + np.abs(float64(bias))
    if residual is not None:
        magnitude = magnitude + np.abs(float64(residual))
    return 1.2 * bound + 8 * eps * magnitude


def softmax_bound(x: ArrayLike, exact: Float, axis: int, eps: float) -> Float:
    """exp(x - max) errs relatively by about eps |x - max|, the sum by eps sqrt(n)."""
    x = float64(x)
    peak = np.max(np.where(np.isfinite(x), x, -np.inf), axis=axis, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        distance = np.where(exact > 0, np.abs(x - peak), 0.0)
    own = eps * (8 + 2 * distance)
    total = np.sum(own * exact, axis=axis, keepdims=True) + eps * 0.5 * math.sqrt(x.shape[axis])
    # A float32 exponential may underflow to zero; a float64 one does so here as well.
    return exact * (own + total) + 16 * (smallest_normal(np.float32) if eps > 1e-10 else 0.0)


def log_softmax_bound(x: ArrayLike, exact: Float, axis: int, eps: float) -> Float:
    """Absolute: the subtraction of the maximum, the logarithm of the sum and their difference."""
    x = float64(x)
    peak = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    with np.errstate(invalid="ignore"):
        distance = np.where(np.isfinite(x) & np.isfinite(peak), np.abs(x - peak), 0.0)
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    return eps * (12 + 4 * distance + 2 * size + 0.5 * math.sqrt(x.shape[axis]))


def layer_norm_bound(
    x: ArrayLike, weight: ArrayLike | None, bias: ArrayLike | None, norm_eps: float, exact: Float, eps: float
) -> Float:
    """The mean errs by eps times the mean magnitude; a variance computed as E[x^2] - E[x]^2 fails this."""
    x = float64(x)
    if x.shape[-1] == 0:
        return np.zeros(x.shape)
    n = x.shape[-1]
    deviation = np.sqrt(np.var(x, axis=-1, keepdims=True) + norm_eps)
    magnitude = np.abs(x) + (2 + 0.5 * math.sqrt(n)) * np.mean(np.abs(x), axis=-1, keepdims=True)
    normed = np.abs(x - np.mean(x, axis=-1, keepdims=True)) / deviation
    bound = 4 * eps * magnitude / deviation + (8 + 0.5 * math.sqrt(n)) * eps * normed
    if weight is not None:
        bound = bound * np.abs(float64(weight))
    return bound + 4 * eps * np.abs(exact) + (0 if bias is None else 4 * eps * np.abs(float64(bias)))


def rms_norm_bound(x: ArrayLike, exact: Float, eps: float) -> Float:
    """Nothing cancels: a relative error."""
    return (12 + 0.5 * math.sqrt(np.shape(x)[-1])) * eps * np.abs(exact)


def activation_bound(name: str, x: ArrayLike, exact: Float, eps: float) -> Float:
    """relu is exact; exponentials err by eps |x|; GELU's 1 + erf cancels, so its error is relative to x."""
    signed = x
    x = np.abs(float64(x))
    x = np.where(np.isfinite(x), x, 0.0)
    size = np.where(np.isfinite(exact), np.abs(exact), 0.0)
    tiny = (
        16 * smallest_normal(np.float32) if eps == epsilon(np.float32) else 16 * smallest_normal(np.float64)
    )
    match name:
        case "relu":
            return np.zeros(x.shape)
        case "gelu":
            # On the left the tail exp(-x^2 / 2) errs by eps x^2, relatively: no cancellation is admitted. It
            # counts as zero where it is subnormal, |x| < 40, and is multiplied by x.
            return np.where(
                float64(signed) < 0, (8 + 2 * np.square(np.minimum(x, 1e3))) * size, 6 * x
            ) * eps + tiny * np.clip(x, 1.0, 40.0)
        case "gelu_tanh":
            # Far to the left the tanh form is zero, and no longer an error relative to x.
            return 6 * eps * np.where(float64(signed) < 0, np.minimum(x, 16.0), x) + tiny
        case "tanh":
            return 6 * eps * size + tiny
        case "sigmoid" | "silu":
            return (8 + 2 * x) * eps * size + tiny * np.maximum(x, 1.0)
    raise AssertionError(name)


def rotary_bound(x: ArrayLike, cos: ArrayLike, sin: ArrayLike, eps: float) -> float:
    """Two products and a sum."""
    largest = (np.max(np.abs(float64(part)), initial=0.0) for part in (cos, sin))
    return float(4 * eps * np.max(np.abs(float64(x)), initial=0.0) * sum(largest))


def attention_bounds(exact: AttentionResult, features: int, dtype: Any) -> tuple[Float, Float, Float]:
    """Bounds of output, weights and lse.

    A score errs by eps times the magnitudes of its terms, its exponential relatively by that and by eps times
    its distance from the maximum; the weights' errors average into the sum and into the output.

    The weights of bfloat16 may be rounded to it for the product with the values: each by a part of at most
    u = eps / 2, and the output, their mean, by sum_j w_j d_j (v_j - output) with |d_j| <= u. By
    Cauchy-Schwarz that is at most u sqrt(n) of the root of the sum of squares, for n keys; of independent
    signs it has 1 / sqrt(3) of u times that root as standard deviation. So min(sqrt(n), 4) u of it: all of it
    up to 16 keys, seven deviations beyond. (Equal weights of 1 / n: u / sqrt(n) of the values.)
    """
    eps = epsilon(accumulator(dtype))
    keys = exact.scores.shape[-1]
    present = exact.weights > 0
    with np.errstate(invalid="ignore"):
        distance = np.abs(exact.scores - np.where(np.isfinite(exact.lse), exact.lse, 0.0)[..., None])
        own = eps * (8 * math.sqrt(max(features, 1)) * exact.magnitude + 4 * distance + 16 + math.sqrt(keys))
    own = np.where(present, own, 0.0)
    shared = np.sum(own * exact.weights, axis=-1)
    weights = exact.weights * (own + shared[..., None]) + floor(dtype)
    values = np.abs(exact.values)
    output = (exact.weights * own) @ values + shared[..., None] * (exact.weights @ values)
    output = output + floor(dtype) * np.sum(values, axis=-2, keepdims=True)
    if dtype == BFLOAT16:
        squares = np.square(exact.weights)
        shared_root = np.sqrt(np.sum(squares, axis=-1, keepdims=True))
        root = np.sqrt(squares @ np.square(values)) + shared_root * np.abs(exact.output)
        output = output + min(math.sqrt(keys), 4.0) * 0.5 * epsilon(dtype) * root
    with np.errstate(invalid="ignore"):
        lse = shared + eps * (16 + 2 * np.where(np.isfinite(exact.lse), np.abs(exact.lse), 0.0))
    return output, weights, lse
