"""What the recurrent layers share: parameters, layers and directions, initial states.

Letters: B batch, S steps, I input_size, H hidden_size, L num_layers, N directions (1 or 2), P the size of a
step's result (H, unless an LSTM projects it).

A recurrent layer multiplies the input of every step by one matrix and the state that the step before left by
another. The first product needs no state, so it is made for all steps at once; only the second, of B rows,
has to wait for the step before it. That wait is what attention later did away with.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from attnlib.functional import PackedWeight
from attnlib.nn.initialisers import uniform
from attnlib.nn.module import ArrayParameter, Module, PackedParameter, as_float_array, check_size

__all__ = ["OneState", "Recurrent"]

Array = NDArray[Any]


class Recurrent(Module):
    """Base class of `RNN`, `LSTM` and `GRU`: their parameters, and the walk over layers and directions.

    Parameters
    ----------
    blocks
        Blocks of H rows in each weight: one for the state and one for each gate.
    input_size, hidden_size, num_layers, bias, batch_first, bidirectional, proj_size, rng
        As in the layers.
    """

    def __init__(
        self,
        blocks: int,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        bidirectional: bool,
        proj_size: int = 0,
        rng: np.random.Generator | None = None,
    ) -> None:
        caller = type(self).__name__
        check_size(
            caller,
            input_size=input_size,
            hidden_size=hidden_size,
            num_layers=num_layers,
            proj_size=proj_size,
        )
        if num_layers == 0:
            raise ValueError(f"{caller}: num_layers must be at least 1, got 0")
        if proj_size and proj_size >= hidden_size:
            raise ValueError(f"{caller}: proj_size {proj_size} must be less than hidden_size {hidden_size}")
        if not batch_first:
            raise ValueError(f"{caller}: only batch_first=True is supported; swap the first two axes of x")
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.proj_size = proj_size
        self.output_size = proj_size or hidden_size
        initialise = partial(uniform, bound=1 / math.sqrt(hidden_size) if hidden_size else 0.0)
        rows = blocks * hidden_size
        for layer in range(num_layers):
            columns = self.directions * self.output_size if layer else input_size
            for suffix in self._suffixes(layer):
                entries: dict[str, PackedParameter | ArrayParameter] = {
                    "weight_ih": PackedParameter((rows, columns), initialise, rng),
                    "weight_hh": PackedParameter((rows, self.output_size), initialise, rng),
                }
                if bias:
                    entries["bias_ih"] = ArrayParameter((rows,), initialise, rng)
                    entries["bias_hh"] = ArrayParameter((rows,), initialise, rng)
                if proj_size:
                    entries["weight_hr"] = PackedParameter((proj_size, hidden_size), initialise, rng)
                for name, parameter in entries.items():
                    setattr(self, name + suffix, parameter)

    @property
    def directions(self) -> int:
        """N: 2 if `bidirectional`, else 1."""
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> tuple[str, ...]:
        """Name the directions of a layer as the parameters' names end."""
        return (f"_l{layer}", f"_l{layer}_reverse")[: self.directions]

    def _weight(self, name: str) -> PackedWeight:
        weight: PackedWeight = getattr(self, name).value
        return weight

    def _bias(self, name: str, dtype: np.dtype[Any]) -> Array | None:
        """Read a bias in the dtype of the computation, or None where the layer has none."""
        slot: ArrayParameter | None = getattr(self, name, None)
        return None if slot is None else slot.value.astype(dtype, copy=False)

    def _run(self, x: ArrayLike, names: tuple[str, ...], initial: tuple[ArrayLike | None, ...]) -> Any:
        """Walk all layers and directions.

        Parameters
        ----------
        x : (B, S, I) or (S, I)
        names
            What errors call the initial states.
        initial
            The states before the first step, each (L * N, B, size) or None for zeros: first the one that is
            handed on as the result, of size P, then others of size H.

        Returns
        -------
        out, tuple of the states after the last step
        """
        caller = type(self).__name__
        steps = as_float_array(caller, "x", x)
        if steps.ndim not in (2, 3) or steps.shape[-1] != self.input_size:
            raise ValueError(
                f"{caller}: x has shape {steps.shape}, expected (B, S, {self.input_size}) or "
                f"(S, {self.input_size})"
            )
        given = [
            None if state is None else as_float_array(caller, name, state)
            for name, state in zip(names, initial, strict=True)
        ]
        dtype = _promote(
            steps.dtype,
            *(array.dtype for array in given if array is not None),
            *(slot.value.dtype for _, slot in self.named_parameters()),
        )
        # Half precision is for storing: errors of a state add up over the steps, so it is kept in float32.
        compute = np.dtype(np.float64 if dtype == np.float64 else np.float32)
        batched = steps.ndim == 3
        batch = steps.shape[:1] if batched else ()
        states = []
        for index, (name, array) in enumerate(zip(names, given, strict=True)):
            size = self.hidden_size if index else self.output_size
            shape = (self.num_layers * self.directions, *batch, size)
            if array is None:
                array = np.zeros(shape, compute)
            elif array.shape != shape:
                raise ValueError(
                    f"{caller}: {name} has shape {array.shape}, expected (num_layers * directions, "
                    f"{'B, ' if batched else ''}{'proj_size' if size != self.hidden_size else 'hidden_size'})"
                    f" = {shape}"
                )
            else:
                array = array.astype(compute)
            states.append(array if batched else array[:, None])

        out = (steps if batched else steps[None]).astype(compute, copy=False)
        # Infinities and NaN in the input are no news: they pass silently, as through every kernel.
        with np.errstate(all="ignore"):
            for layer in range(self.num_layers):
                out = self._run_layer(layer, out, states)
        out = (out if batched else out[0]).astype(dtype, copy=False)
        last = tuple((s if batched else s[:, 0]).astype(dtype, copy=False) for s in states)
        return out, last

    def _run_layer(self, layer: int, x: Array, states: list[Array]) -> Array:
        """Run one layer in its directions; its rows of `states` become those after the last step."""
        size = self.output_size
        out = np.empty((*x.shape[:2], self.directions * size), x.dtype)
        for direction, suffix in enumerate(self._suffixes(layer)):
            mine = out[..., direction * size : (direction + 1) * size]
            order = range(x.shape[1])[:: -1 if direction else 1]
            row = layer * self.directions + direction
            self._scan(suffix, x, order, [state[row] for state in states], mine)
        return out

    @abstractmethod
    def _scan(self, suffix: str, x: Array, order: range, states: list[Array], out: Array) -> None:
        """Walk one direction of one layer.

        Parameters
        ----------
        suffix
            How the names of its parameters end.
        x : (B, S, columns)
        order
            The steps, first to last or last to first.
        states : each (B, size)
            The states before the first step; overwritten by those after the last.
        out : (B, S, P)
            Receives the result of every step.
        """

    def _summed_bias(self, suffix: str, dtype: np.dtype[Any]) -> Array | None:
        """Add the two biases that PyTorch keeps, where they only ever occur as their sum."""
        first, second = self._bias("bias_ih" + suffix, dtype), self._bias("bias_hh" + suffix, dtype)
        return None if first is None or second is None else first + second


def _promote(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    """Find the dtype of a result as the kernels do; NumPy has no answer for float16 with bfloat16."""
    # What a quantised weight is multiplied by decides, so it takes no part itself.
    floats = {dtype for dtype in map(np.dtype, dtypes) if dtype.name not in ("int8", "int4")}
    halves = {np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)}
    if floats >= halves:
        floats = floats - halves | {np.dtype(np.float32)}
    return np.result_type(*floats)


class OneState(Recurrent):
    """A recurrent layer whose state is its result: what `RNN` and `GRU` share."""

    def __call__(self, x: ArrayLike, h0: ArrayLike | None = None) -> tuple[Array, Array]:
        """Run over all steps.

        Parameters
        ----------
        x : (B, S, I) or (S, I)
        h0 : (L * N, B, H), or (L * N, H) with (S, I), optional
            The state before the first step. Default zeros.

        Returns
        -------
        out : (B, S, N * H)
            The state of the last layer after each step.
        h : (L * N, B, H)
            The state of each layer and direction after its last step. Without B if `x` has none.

        Raises
        ------
        TypeError
            If an array is not float32, float64, float16 or bfloat16.
        ValueError
            If an array's shape does not fit.

        Notes
        -----
        The results have the dtype that the arrays and parameters promote to. With float16 and bfloat16 the
        state is float32 from the first step to the last, and results are rounded once.
        """
        out, (h,) = self._run(x, ("h0",), (h0,))
        return out, h
