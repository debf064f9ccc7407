"""Long short-term memory. Letters as in `attnlib.nn.recurrent`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.functional import PackedWeight, linear, lstm_steps, pack_weight
from attnlib.nn.recurrent import Recurrent

__all__ = ["LSTM"]

Array = NDArray[Any]


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997; its forget gate: Gers et al., 2000).

    With ``a = weight_ih @ x[t] + bias_ih + weight_hh @ h[t - 1] + bias_hh`` in four blocks i, f, g, o:
    ``c[t] = sigmoid(f) * c[t - 1] + sigmoid(i) * tanh(g)`` and ``h[t] = sigmoid(o) * tanh(c[t])``. The cell c
    is added to, not multiplied by a matrix, so what is to be kept survives many more steps than in an `RNN`.
    What limits it: the steps still come one after the other, and all of the past has to fit into c.

    Parameters
    ----------
    input_size, hidden_size
        Sizes I of a step's input and H of the cell.
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
    proj_size
        If not 0, h is ``weight_hr @ (sigmoid(o) * tanh(c))``, of this size P < H (Sak, Senior and Beaufays,
        2014). Default 0, where P is H.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them. All are uniform in ``[-1/sqrt(H), 1/sqrt(H))``, as in PyTorch.

    Attributes
    ----------
    weight_ih_l{k} : (4 * H, I), above layer 0 (4 * H, N * P)
    weight_hh_l{k} : (4 * H, P)
    bias_ih_l{k}, bias_hh_l{k} : (4 * H,), with `bias`
    weight_hr_l{k} : (P, H), with `proj_size`
        All again with the suffix ``_reverse``, if `bidirectional`.

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> out, (h, c) = layer(np.zeros((2, 7, 3), np.float32))
    >>> out.shape, h.shape, c.shape
    ((2, 7, 10), (4, 2, 5), (4, 2, 5))
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
        proj_size: int = 0,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        super().__init__(
            4, input_size, hidden_size, num_layers, bias, batch_first, bidirectional, proj_size, rng
        )

    def __call__(
        self, x: ArrayLike, h0: tuple[ArrayLike, ArrayLike] | None = None
    ) -> tuple[Array, tuple[Array, Array]]:
        """Run over all steps.

        Parameters
        ----------
        x : (B, S, I) or (S, I)
        h0 : tuple of (L * N, B, P) and (L * N, B, H), optional
            h and c before the first step, without B if `x` has none. Default zeros.

        Returns
        -------
        out : (B, S, N * P)
            h of the last layer after each step.
        (h, c) : (L * N, B, P), (L * N, B, H)
            Of each layer and direction after its last step. Without B if `x` has none.

        Raises
        ------
        TypeError
            If an array is not float32, float64, float16 or bfloat16, or `h0` is not a tuple of two.
        ValueError
            If an array's shape does not fit.

        Notes
        -----
        The results have the dtype that the arrays and parameters promote to. With float16 and bfloat16 the
        states are float32 from the first step to the last, and results are rounded once.
        """
        if h0 is not None and not (isinstance(h0, (tuple, list)) and len(h0) == 2):
            found = f"{len(h0)} of them" if isinstance(h0, (tuple, list)) else type(h0).__name__
            raise TypeError(f"LSTM: h0 must be a tuple of two arrays (h, c), got {found}")
        out, (h, c) = self._run(x, ("h0[0]", "h0[1]"), (None, None) if h0 is None else tuple(h0))
        return out, (h, c)

    def _scan(self, suffix: str, x: Array, order: range, states: list[Array], out: Array) -> None:
        projected = linear(x, self._weight("weight_ih" + suffix), self._summed_bias(suffix, x.dtype))
        hidden, cell = states
        _, cell[...] = lstm_steps(
            projected,
            _as_float64(self._weight("weight_hh" + suffix), x.dtype),
            hidden,
            cell,
            output_weight=_as_float64(self._weight("weight_hr" + suffix), x.dtype)
            if self.proj_size
            else None,
            backwards=order.step < 0,
            out=out,
        )
        if order:
            hidden[...] = out[:, order[-1]]


def _as_float64(weight: PackedWeight, dtype: np.dtype[Any]) -> PackedWeight:
    """Repack a weight for a computation in float64: its panels are computed in their own dtype alone."""
    if dtype != np.float64 or weight.dtype == np.float64:
        return weight
    return pack_weight(weight.unpack(), dtype="float64")
