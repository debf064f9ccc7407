"""A fully connected layer."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.functional import linear
from attnlib.nn.initialisers import uniform
from attnlib.nn.module import ArrayParameter, Module, PackedParameter, check_size

__all__ = ["Linear"]


class Linear(Module):
    """``x @ weight.T + bias``.

    Parameters
    ----------
    in_features, out_features
        Sizes I and O of the last axis before and after.
    bias
        Whether there is a bias. Default True.
    rng
        Draw the parameters from this generator, now. By default they are drawn when first used, unless
        `load_state_dict` brings them. Both are uniform in ``[-1/sqrt(I), 1/sqrt(I))``, as in PyTorch.

    Attributes
    ----------
    weight : (O, I)
    bias : (O,) or None

    Examples
    --------
    >>> import numpy as np
    >>> from attnlib import nn
    >>> layer = nn.Linear(2, 3)
    >>> layer.load_state_dict({"weight": np.eye(3, 2), "bias": np.ones(3)})
    >>> layer(np.array([[5.0, 7.0]]))
    array([[6., 8., 1.]])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        check_size("Linear", in_features=in_features, out_features=out_features)
        self.in_features = in_features
        self.out_features = out_features
        # PyTorch's kaiming_uniform_(a=sqrt(5)) comes down to this bound.
        initialise = partial(uniform, bound=1 / math.sqrt(in_features) if in_features else 0.0)
        self.weight = PackedParameter((out_features, in_features), initialise, rng)
        self.bias = ArrayParameter((out_features,), initialise, rng) if bias else None

    def __call__(
        self,
        x: ArrayLike,
        *,
        activation: str | None = None,
        residual: ArrayLike | None = None,
        out: NDArray[Any] | None = None,
    ) -> NDArray[Any]:
        """Apply the layer to the last axis, with an activation and a sum in the same pass.

        Parameters
        ----------
        x : (..., I)
        activation
            Applied to the product: one of those of `attnlib.linear`. Default None.
        residual : (..., O), optional
            Added last.
        out : (..., O), optional
            Receives the result.

        Returns
        -------
        (..., O) ndarray

        Raises
        ------
        TypeError, ValueError
            As `attnlib.linear`.
        """
        bias = None if self.bias is None else self.bias.value
        return linear(x, self.weight.value, bias, activation=activation, residual=residual, out=out)
