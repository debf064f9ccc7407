"""The gated recurrent unit. Letters as in `attnlib.nn.recurrent`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.functional import linear, sigmoid, tanh
from attnlib.nn.recurrent import OneState

__all__ = ["GRU"]

Array = NDArray[Any]


class GRU(OneState):
    """The gated recurrent unit (Cho et al., 2014, the paper that brought the encoder-decoder).

    With ``a = weight_ih @ x[t] + bias_ih`` and ``b = weight_hh @ h[t - 1] + bias_hh``, each in three blocks
    r, z, n: ``r = sigmoid(a_r + b_r)``, ``z = sigmoid(a_z + b_z)``, ``n = tanh(a_n + r * b_n)`` and
    ``h[t] = (1 - z) * n + z * h[t - 1]``. It keeps the gates of an `LSTM` and does without its cell: z says
    how much of the state stays, so gradients pass where it is near 1. What limits it is the same: the steps
    come one after the other, and one vector of H numbers carries all of the past.

    Parameters
    ----------
    input_size, hidden_size
        Sizes I of a step's input and H of the state.
    num_layers
        Layers L; each reads the results of the one below. Default 1.
    bias
        Whether there are biases. Default True.
    batch_first
        Only True, the default (PyTorch's is False: there the steps come first).
    dropout
        Taken for the sake of ``torch.nn`` and without effect: these layers are for inference.
    bidirectional
        A second network reads the steps from the last to the first, and both results are joined. Default
        False.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them. All are uniform in ``[-1/sqrt(H), 1/sqrt(H))``, as in PyTorch.

    Attributes
    ----------
    weight_ih_l{k} : (3 * H, I), above layer 0 (3 * H, N * H)
    weight_hh_l{k} : (3 * H, H)
    bias_ih_l{k}, bias_hh_l{k} : (3 * H,), with `bias`
        All again with the suffix ``_reverse``, if `bidirectional`.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.GRU(3, 5, num_layers=2)
    >>> out, h = layer(np.zeros((2, 7, 3), np.float32))
    >>> out.shape, h.shape
    ((2, 7, 5), (2, 2, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(3, input_size, hidden_size, num_layers, bias, batch_first, bidirectional, rng=rng)

    def _scan(self, suffix: str, x: Array, order: range, states: list[Array], out: Array) -> None:
        projected = linear(x, self._weight("weight_ih" + suffix), self._bias("bias_ih" + suffix, x.dtype))
        weight, bias = self._weight("weight_hh" + suffix), self._bias("bias_hh" + suffix, x.dtype)
        size = self.hidden_size
        gates = np.empty((x.shape[0], 3 * size), x.dtype)
        reset, update, candidate = (gates[:, k * size : (k + 1) * size] for k in range(3))
        reset_and_update = gates[:, : 2 * size]
        (hidden,) = states
        for step in order:
            here = out[:, step]
            linear(hidden, weight, bias, out=gates)
            np.add(reset_and_update, projected[:, step, : 2 * size], out=reset_and_update)
            sigmoid(reset_and_update, out=reset_and_update)
            np.multiply(candidate, reset, out=candidate)
            np.add(candidate, projected[:, step, 2 * size :], out=candidate)
            tanh(candidate, out=candidate)
            # (1 - z) n + z h with one product: n + z (h - n).
            np.subtract(hidden, candidate, out=here)
            np.multiply(here, update, out=here)
            np.add(here, candidate, out=here)
            hidden = here
        states[0][...] = hidden
