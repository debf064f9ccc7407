"""The element-wise part of a step of an LSTM."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from attnlib import _core

__all__ = ["lstm_cell"]


def lstm_cell(
    gates: ArrayLike,
    projected: ArrayLike,
    cell: ArrayLike,
    *,
    out: NDArray[Any] | None = None,
    cell_out: NDArray[Any] | None = None,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Update the cell of an LSTM by one step, in one pass.

    With ``a = gates + projected`` in four blocks i, f, g, o of H columns:
    ``cell_out = sigmoid(f) * cell + sigmoid(i) * tanh(g)`` and ``out = sigmoid(o) * tanh(cell_out)``
    (S. Hochreiter and J. Schmidhuber, 1997; F. Gers, J. Schmidhuber and F. Cummins, 2000). B batch, H units.

    Parameters
    ----------
    gates : array_like, shape (B, 4 * H)
        What the state before contributes, ``h @ weight_hh.T``.
    projected : array_like, shape (B, 4 * H)
        What this step's input contributes, with the biases.
    cell : array_like, shape (B, H)
        The cell before.
    out, cell_out : ndarray, shape (B, H), optional
        Where to put the results; `cell_out` may be `cell`. Default: new arrays.

    Returns
    -------
    out, cell_out : ndarray, shape (B, H)
        Of the dtype that the inputs promote to.

    Raises
    ------
    TypeError
        If an array is not float32 or float64: half precision would round the state at every step.
    ValueError
        If the shapes do not fit, or `out` or `cell_out` has another shape or is read-only.

    Examples
    --------
    >>> import numpy as np
    >>> hidden, cell = lstm_cell(np.zeros((1, 8)), np.zeros((1, 8)), np.array([[2.0, -4.0]]))
    >>> cell
    array([[ 1., -2.]])
    >>> hidden.round(3)
    array([[ 0.381, -0.482]])
    """
    return _core.lstm_cell(gates, projected, cell, out, cell_out)
