"""The simple recurrent network. Letters as in `attnlib.nn.recurrent`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.functional import linear, relu, tanh
from attnlib.nn.recurrent import OneState

__all__ = ["RNN"]

Array = NDArray[Any]
_ACTIVATIONS = {"tanh": tanh, "relu": relu}


class RNN(OneState):
    """The simple recurrent network (Elman, "Finding structure in time", 1990).

    ``h[t] = tanh(weight_ih @ x[t] + bias_ih + weight_hh @ h[t - 1] + bias_hh)``: one vector is all that a
    step knows of those before it. The steps must be taken one after the other, so they do not parallelise,
    and what a distant step left has been multiplied by ``weight_hh`` at every step since: it vanishes or
    explodes (Bengio, Simard and Frasconi, 1994). `LSTM` and `GRU` mend the second fault, attention both.

    Parameters
    ----------
    input_size, hidden_size
        Sizes I of a step's input and H of the state.
    num_layers
        Layers L; each reads the results of the one below. Default 1.
    nonlinearity
        ``"tanh"`` (default) or ``"relu"``.
    bias
        Whether there are biases. Default True.
    batch_first
        Only True, the default (PyTorch's is False: there the steps come first).
    dropout
        Taken for the sake of ``torch.nn`` and without effect: these layers are for inference.
    bidirectional
        A second network reads the steps from the last to the first, and both results are joined (Schuster
        and Paliwal, "Bidirectional recurrent neural networks", 1997). Default False.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them. All are uniform in ``[-1/sqrt(H), 1/sqrt(H))``, as in PyTorch.

    Attributes
    ----------
    weight_ih_l{k} : (H, I), above layer 0 (H, N * H)
    weight_hh_l{k} : (H, H)
    bias_ih_l{k}, bias_hh_l{k} : (H,), with `bias`
        All again with the suffix ``_reverse``, if `bidirectional`.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.RNN(1, 1, nonlinearity="relu", bias=False)
    >>> layer.load_state_dict({"weight_ih_l0": np.ones((1, 1)), "weight_hh_l0": np.full((1, 1), 0.5)})
    >>> out, h = layer(np.array([[[8.0], [0.0], [0.0]]]))
    >>> out[0, :, 0], h
    (array([8., 4., 2.]), array([[[2.]]]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        if nonlinearity not in _ACTIVATIONS:
            raise ValueError(f"RNN: nonlinearity must be 'tanh' or 'relu', got {nonlinearity!r}")
        super().__init__(1, input_size, hidden_size, num_layers, bias, batch_first, bidirectional, rng=rng)
        self.nonlinearity = nonlinearity

    def _scan(self, suffix: str, x: Array, order: range, states: list[Array], out: Array) -> None:
        projected = linear(x, self._weight("weight_ih" + suffix), self._summed_bias(suffix, x.dtype))
        weight = self._weight("weight_hh" + suffix)
        activate = _ACTIVATIONS[self.nonlinearity]
        (hidden,) = states
        for step in order:
            here = out[:, step]
            linear(hidden, weight, residual=projected[:, step], out=here)
            hidden = activate(here, out=here)
        states[0][...] = hidden
