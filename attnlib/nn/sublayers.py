"""What the layers of encoder and decoder share: the feed-forward network, and norms and checks around it.

Letters: B batch, S queries, Sk keys, E d_model, F dim_feedforward, H heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.nn.linear import Linear
from attnlib.nn.normalization import LayerNorm

__all__ = [
    "check_activation",
    "check_lengths",
    "check_mask",
    "check_tokens",
    "feed_forward",
    "normalise_in_place",
]

_ACTIVATIONS = ("relu", "gelu", "gelu_tanh", "silu", "tanh")


def check_activation(layer: str, activation: str) -> None:
    """Raise unless the products have `activation` built in, naming the layer."""
    if activation not in _ACTIVATIONS:
        raise ValueError(f"{layer}: activation must be one of {_ACTIVATIONS}, got {activation!r}")


def feed_forward(
    linear1: Linear, linear2: Linear, activation: str, x: NDArray[Any], residual: NDArray[Any]
) -> NDArray[Any]:
    """Give every token by itself through two products: ``linear2(activation(linear1(x))) + residual``."""
    return linear2(linear1(x, activation=activation), residual=residual)


def normalise_in_place(norm: LayerNorm, total: NDArray[Any]) -> NDArray[Any]:
    """Normalise a sum that nobody else has seen, over itself unless the weights promote it."""
    fits = norm.weight is None or norm.weight.value.dtype == total.dtype
    return norm(total, out=total if fits else None)


def check_tokens(layer: str, name: str, array: NDArray[Any], features: int) -> None:
    """Raise unless `array` is (B, S, E) or (S, E), naming the layer and the argument."""
    if array.ndim not in (2, 3) or array.shape[-1] != features:
        raise ValueError(
            f"{layer}: {name} has shape {array.shape}, expected (B, S, {features}) or (S, {features})"
        )


def check_lengths(
    layer: str, name: str, lengths: ArrayLike | None, batch: tuple[int, ...], longest: int
) -> NDArray[np.int64] | None:
    """Return one length for each batch entry; raise unless they are integers from 0 to `longest`."""
    if lengths is None:
        return None
    array = np.asarray(lengths)
    if array.dtype.kind not in "iu" and array.size:
        raise TypeError(f"{layer}: {name} must hold integers, got {array.dtype}")
    if array.shape not in (batch, (1,) * len(batch)):
        raise ValueError(f"{layer}: {name} has shape {array.shape}, expected {batch}, one for each sequence")
    if array.size and not ((low := array.min()) >= 0 and (high := array.max()) <= longest):
        found = low if low < 0 else high
        raise ValueError(f"{layer}: {name} holds {found}, but a sequence has 0 to {longest} tokens")
    return np.broadcast_to(array.astype(np.int64), batch)


def check_mask(layer: str, name: str, mask: ArrayLike | None, scores: tuple[int, ...]) -> None:
    """Raise unless `mask` is bool and broadcasts to the shape of the scores, naming layer and argument."""
    if mask is None:
        return
    array = np.asarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"{layer}: {name} must be bool, True where attention is allowed, got {array.dtype}")
    try:
        fits = np.broadcast_shapes(array.shape, scores) == scores
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{layer}: {name} has shape {array.shape}, which does not broadcast to {scores}")
