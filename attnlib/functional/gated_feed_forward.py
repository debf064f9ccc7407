"""The second half of a Llama layer in one call."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from attnlib import _core
from attnlib._core import PackedWeight

__all__ = ["gated_feed_forward"]


def gated_feed_forward(
    x: ArrayLike,
    norm_weight: ArrayLike | None,
    gate_up: PackedWeight,
    down: PackedWeight,
    *,
    eps: float = 1e-6,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Add a gated feed-forward network, which reads its input through a norm: a sublayer of Llama.

    ``x + swiglu(gate, up) @ down.T``, where `gate` and `up` are the halves of ``rms_norm(x, norm_weight) @
    gate_up.T`` (N. Shazeer, "GLU Variants Improve Transformer", 2020). The same bits as `rms_norm`, `linear`,
    `swiglu` and `linear`; for a token they are over so soon that calling them, and waking a thread for each,
    takes as long. Letters: d features, I inner ones.

    Parameters
    ----------
    x : array_like, shape (..., d)
    norm_weight : array_like, shape (d,), or None
    gate_up : PackedWeight, shape (2 * I, d)
        The weight of the gate, and below it that of what it gates.
    down : PackedWeight, shape (d, I)
    eps
        Added to the mean square. Default 1e-6.
    out : ndarray, shape (..., d), optional
        Where to put the result. It shares no memory with the others.

    Returns
    -------
    ndarray, shape (..., d)
        Of the dtype that the arrays and float weights promote to.

    Raises
    ------
    TypeError
        If an array is not of a float dtype, or float64 meets a weight that is packed otherwise.
    ValueError
        If the shapes do not fit, or `out` has another shape or is read-only.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> up = al.pack_weight(np.array([[100.0], [1.0]]))
    >>> gated_feed_forward([[3.0]], [1.0], up, al.pack_weight([[0.5]]), eps=0.0)
    array([[53.]])
    """
    return _core.gated_feed_forward(x, norm_weight, gate_up, down, eps, out)
