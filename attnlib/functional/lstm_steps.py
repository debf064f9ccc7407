"""The recurrence of an LSTM."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from attnlib import _core
from attnlib._core import PackedWeight

__all__ = ["lstm_steps"]


def lstm_steps(
    projected: ArrayLike,
    weight: PackedWeight,
    hidden: ArrayLike,
    cell: ArrayLike,
    *,
    output_weight: PackedWeight | None = None,
    backwards: bool = False,
    out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Take all steps of an LSTM whose inputs have been projected, in one call.

    With ``a = projected[:, t] + hidden @ weight.T`` in four blocks i, f, g, o of H columns, at each step
    ``cell = sigmoid(f) * cell + sigmoid(i) * tanh(g)`` and ``hidden = sigmoid(o) * tanh(cell)``, multiplied
    by ``output_weight.T`` if there is one (S. Hochreiter and J. Schmidhuber, 1997; F. Gers et al., 2000; H.
    Sak et al., 2014). Letters: B batch, S steps, H units, P the size of the result, H without
    `output_weight`.

    Parameters
    ----------
    projected : array_like, shape (B, S, 4 * H)
        What the inputs contribute, with the biases.
    weight : PackedWeight, shape (4 * H, P)
    hidden, cell : array_like, shapes (B, P) and (B, H)
        The state before the first step.
    output_weight : PackedWeight, shape (P, H), optional
    backwards
        Whether to walk from the last step to the first. Default False.
    out : ndarray, shape (B, S, P), optional
        Where to put the result.

    Returns
    -------
    out : ndarray, shape (B, S, P)
        ``hidden`` after each step.
    cell : ndarray, shape (B, H)
        After the last step taken.

    Raises
    ------
    TypeError
        If the arrays do not promote to float32 or float64 (half precision would round the state at every
        step), or float64 meets a weight that is packed otherwise.
    ValueError
        If the shapes do not fit, or `out` has another shape or is read-only.

    Examples
    --------
    >>> import numpy as np, attnlib as al
    >>> weight = al.pack_weight(np.zeros((8, 2)))
    >>> out, cell = lstm_steps(np.zeros((1, 2, 8)), weight, np.zeros((1, 2)), np.array([[2.0, -4.0]]))
    >>> cell
    array([[ 0.5, -1. ]])
    >>> out.round(3)
    array([[[ 0.381, -0.482],
            [ 0.231, -0.381]]])
    """
    return _core.lstm_steps(projected, weight, hidden, cell, output_weight, backwards, out)
