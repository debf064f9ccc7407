"""What every layer is: named parameters that load, save and change dtype.

A layer keeps its parameters as attributes under the names that ``torch.nn`` gives them. Each is a slot
rather than a bare array, for two reasons: the weight of a product is kept only in the packed layout that the
kernels read, and a parameter that a checkpoint is about to bring must not first be filled with random
numbers, so its array is made when it is first read.
"""

from __future__ import annotations

import copy
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from attnlib.arrays import as_array
from attnlib.functional import PackedWeight, load_packed, pack_weight, save_packed
from attnlib.nn.collected import Watched, layers_changed
from attnlib.nn.initialisers import Initialiser

__all__ = ["ArrayParameter", "Module", "PackedParameter", "Parameter"]

_FLOATS = frozenset(np.dtype(d) for d in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16))

# Formats that exist only as packed weights: biases, norms and embeddings stay as they are beside them.
_QUANTISED = frozenset({"int8", "int4"})


def is_quantised(dtype: DTypeLike) -> bool:
    """Return whether `dtype` is one of the formats that exist only as packed weights."""
    return (isinstance(dtype, str) and dtype in _QUANTISED) or getattr(dtype, "name", None) in _QUANTISED


Held = TypeVar("Held")
Self = TypeVar("Self", bound="Module")


def check_size(layer: str, **sizes: int) -> None:
    """Raise unless every size is an integer of at least 0, naming the layer and the argument."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)):
            raise TypeError(f"{layer}: {name} must be an integer, got {type(size).__name__}")
        if size < 0:
            raise ValueError(f"{layer}: {name} must not be negative, got {size}")


def check_layers(caller: str, **layers: object) -> None:
    """Raise unless all of these are layers, naming the caller and the argument."""
    for name, layer in layers.items():
        if not isinstance(layer, Module):
            raise TypeError(f"{caller}: {name} must be a layer, got {type(layer).__name__}")


class Parameter(Watched, ABC, Generic[Held]):
    """The slot of one named parameter.

    Values are replaced, never written in place, so copies of a layer share them.

    Parameters
    ----------
    shape
        The shape that a checkpoint's entry must have.
    initialise
        Makes the array when no checkpoint brings it.
    rng
        When given, the array is drawn from it at once, so that it depends on the order of construction and
        not on the order of use. Otherwise it is drawn from a fresh generator when first read.
    """

    _held: Held | None = None  # in the instance once there is a value

    def __init__(
        self, shape: tuple[int, ...], initialise: Initialiser, rng: np.random.Generator | None = None
    ) -> None:
        self.shape = shape
        self._dtype: str | None = None
        self.draw_from(initialise, rng)

    def draw_from(self, initialise: Initialiser, rng: np.random.Generator | None) -> None:
        """Draw the value anew by `initialise`: from `rng` at once, or without it when it is next read."""
        self._initialise = initialise
        vars(self).pop("_held", None)
        layers_changed()
        if rng is not None:
            self.store(initialise(rng, self.shape))

    @property
    def value(self) -> Held:
        """The parameter as the kernels read it."""
        if self._held is None:
            drawn = self._prepare(self._initialise(np.random.default_rng(), self.shape))
            # Of threads that draw at once, all take what the first one has: in one step of the interpreter,
            # since a lock may be held when a process forks or a signal handler comes.
            vars(self).setdefault("_held", drawn)
        assert self._held is not None
        return self._held

    def store(self, array: NDArray[Any]) -> None:
        """Take `array`, of this parameter's shape, in the dtype that `convert` has fixed or in its own."""
        self._held = self._prepare(array)

    def convert(self, dtype: str) -> None:
        """Fix the dtype, of the present value and of whatever is loaded later."""
        if self._held is None:
            self._dtype = dtype
            return
        array = self.array()
        self._dtype = dtype
        self.store(array)

    def pieces(self) -> tuple[Any, ...]:
        """Return the packed weights or the array that the value consists of."""
        value = self.value
        return value if isinstance(value, tuple) else (value,)

    def hold(self, pieces: tuple[Any, ...]) -> None:
        """Take `pieces`, which `accepts` has found good, as the value."""
        self._held = pieces[0]

    @abstractmethod
    def accepts(self, pieces: tuple[Any, ...]) -> bool:
        """Return whether `pieces` are what `pieces()` of a parameter of this shape may be."""

    @abstractmethod
    def array(self) -> NDArray[Any]:
        """Copy the value into a plain array."""

    @abstractmethod
    def _prepare(self, array: NDArray[Any]) -> Held:
        """Bring `array` into the form in which it is kept."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter[Held]:
        twin = object.__new__(type(self))
        twin.__dict__.update(self.__dict__)
        return twin


class ArrayParameter(Parameter[NDArray[Any]]):
    """A parameter that is read as an array: a bias, the weight of a norm, an embedding table."""

    def accepts(self, pieces: tuple[Any, ...]) -> bool:
        """Return whether `pieces` are one array of this shape."""
        return [type(piece) for piece in pieces] == [np.ndarray] and pieces[0].shape == self.shape

    def array(self) -> NDArray[Any]:
        """Copy the value."""
        return np.array(self.value)

    def convert(self, dtype: str) -> None:
        """Fix the dtype; the quantised formats concern packed weights alone and change nothing here."""
        if not is_quantised(dtype):
            super().convert(dtype)

    def _prepare(self, array: NDArray[Any]) -> NDArray[Any]:
        dtype = np.dtype(self._dtype) if self._dtype is not None else array.dtype.newbyteorder("=")
        # What is read-only (a memory-mapped checkpoint) cannot change under the layer: no need for a copy.
        copy = True if array.flags.writeable else None
        return np.array(array, dtype=dtype, order="C", copy=copy)


class PackedParameter(Parameter[PackedWeight]):
    """The weight of a product, (out_features, in_features), kept only in packed form."""

    def accepts(self, pieces: tuple[Any, ...]) -> bool:
        """Return whether `pieces` are one packed weight of this shape."""
        return packed_shapes(pieces) == [self.shape]

    def array(self) -> NDArray[Any]:
        """Unpack the weight."""
        return self.value.unpack()

    def _prepare(self, array: NDArray[Any]) -> PackedWeight:
        return pack_weight(array, dtype=self._dtype)


class Module(Watched):
    """Base class of the layers: parameters by name, loaded, saved and converted together."""

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter[Any]]]:
        """Yield every parameter slot of the layer and the layers inside it, under its `state_dict` key."""
        for name, member in vars(self).items():
            if isinstance(member, Parameter):
                yield prefix + name, member
            elif isinstance(member, Module):
                yield from member.named_parameters(f"{prefix}{name}.")
            elif isinstance(member, list):
                for index, child in enumerate(member):
                    if not isinstance(child, Module):
                        raise TypeError(f"{type(self).__name__}: {name} must not be {member!r}")
                    yield from child.named_parameters(f"{prefix}{name}.{index}.")

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Copy all parameters, under the names that ``torch.nn`` gives them.

        Returns
        -------
        dict of str to ndarray
            Packed weights are unpacked. Changing these arrays does not change the layer.
        """
        return {name: parameter.array() for name, parameter in self.named_parameters()}

    def load_state_dict(self, state: Mapping[str, ArrayLike]) -> None:
        """Take all parameters from `state`; nothing changes if any entry is refused.

        Parameters
        ----------
        state
            Arrays of float32, float64, float16 or bfloat16 under the keys of `state_dict`. They are copied,
            except read-only ones that are not packed (the embedding table of a memory-mapped checkpoint).
            The layer computes in the dtype of its parameters, unless `to` has fixed one.

        Raises
        ------
        ValueError
            If entries are missing, unexpected, of the wrong shape or not to be packed. They are named.
        TypeError
            If an entry is not an array of one of the dtypes above.
        """
        caller = f"{type(self).__name__}.load_state_dict"
        slots = dict(self.named_parameters())
        arrays = {name: _entry(caller, name, state[name]) for name in slots if name in state}
        complaints = []
        if missing := [repr(name) for name in slots if name not in arrays]:
            complaints.append("missing: " + ", ".join(missing))
        if unexpected := [repr(name) for name in state if name not in slots]:
            complaints.append("unexpected: " + ", ".join(unexpected))
        if misshapen := [
            f"{name!r} is {array.shape}, expected {slots[name].shape}"
            for name, array in arrays.items()
            if array.shape != slots[name].shape
        ]:
            complaints.append("wrong shape: " + ", ".join(misshapen))
        if complaints:
            raise ValueError(f"{caller}: " + "; ".join(complaints))
        _change_all(caller, slots, lambda name, slot: slot.store(arrays.pop(name)))

    def save_packed(self, path: str | os.PathLike[str]) -> None:
        """Write all parameters to a file as the kernels read them, packed and quantised as they are.

        See `attnlib.save_packed`. Processes that `load_packed` it share one copy in memory.

        Parameters
        ----------
        path
            Where to; a file that is there is replaced when the new one is whole.
        """
        entries = {}
        for name, parameter in self.named_parameters():
            for index, piece in enumerate(parameter.pieces()):
                entries[_piece_name(name, index)] = piece
        save_packed(path, entries)

    def load_packed(self: Self, path: str | os.PathLike[str], *, mapped: bool = True) -> Self:
        """Take all parameters from a file of `save_packed`; nothing changes if any entry is refused.

        Parameters
        ----------
        path
            Written by a layer of the same sizes; of which dtype does not matter, it is taken from there.
        mapped
            Whether the parameters stay in the file, as in `attnlib.load_packed`. Default True.

        Returns
        -------
        Module
            The layer itself.

        Raises
        ------
        FileNotFoundError, ValueError
            As `attnlib.load_packed`, and if entries are missing, unexpected or of the wrong shape or kind.
        """
        slots = dict(self.named_parameters())
        entries = load_packed(path, mapped=mapped)
        found: dict[str, tuple[Any, ...]] = {}
        complaints = []
        for name, slot in slots.items():
            pieces: list[Any] = []
            while (key := _piece_name(name, len(pieces))) in entries:
                pieces.append(entries.pop(key))
            found[name] = tuple(pieces)
            if not pieces:
                complaints.append(f"{name!r} is missing")
            elif not slot.accepts(found[name]):
                shapes = ", ".join(f"{type(piece).__name__} {piece.shape}" for piece in pieces)
                complaints.append(f"{name!r} is {shapes}, expected {slot.shape}")
        complaints += [f"{name!r} is unexpected" for name in entries]
        if complaints:
            raise ValueError(f"{type(self).__name__}.load_packed: {path}: " + "; ".join(complaints))
        for name, slot in slots.items():
            slot.hold(found[name])
        return self

    def to(self: Self, dtype: DTypeLike) -> Self:
        """Convert the layer in place, repacking its weights.

        Parameters
        ----------
        dtype
            ``"float32"``, ``"float64"`` or ``"bfloat16"`` convert every parameter, so that inputs of that
            dtype give results of it. ``"int8"`` and ``"int4"`` quantise the weights of products and leave
            the other parameters as they are. What is loaded later is converted likewise. Until all is
            converted, the old weights stay in memory beside the new ones.

        Returns
        -------
        Module
            The layer itself.

        Raises
        ------
        TypeError, ValueError
            If weights cannot be packed so; the first of them is named. The layer is then unchanged.
        """
        caller = f"{type(self).__name__}.to"
        try:
            stored = np.dtype(dtype).name
        except TypeError:
            raise TypeError(f"{caller}: dtype {dtype!r} is not known") from None
        # The packing code is what knows the dtypes that it supports; ask it once, not for each parameter.
        pack_weight(np.zeros((1, 1), dtype=np.float32), dtype=stored)
        _change_all(caller, dict(self.named_parameters()), lambda name, slot: slot.convert(stored))
        return self


def _change_all(
    caller: str, slots: Mapping[str, Parameter[Any]], change: Callable[[str, Parameter[Any]], None]
) -> None:
    """Change all slots or, if one refuses, none; the error names it."""
    twins = {name: copy.deepcopy(slot) for name, slot in slots.items()}
    for name, twin in twins.items():
        try:
            change(name, twin)
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{caller}: {name!r}: {error}") from error
    try:
        for name, slot in slots.items():
            vars(slot).update(vars(twins[name]))
    finally:
        layers_changed()


def _entry(caller: str, name: str, value: ArrayLike) -> NDArray[Any]:
    """Return an entry of a state as an array of floats; if it is read-only, it will not change."""
    array = as_float_array(caller, repr(name), value)
    # A tensor of another library may: DLPack before 1.0 cannot say that one may be written to.
    return array if array.flags.writeable or isinstance(value, np.ndarray) else array.copy()


def packed_shapes(pieces: tuple[Any, ...]) -> list[tuple[int, ...]]:
    """Return the shapes of packed weights; of what is none, (-1,)."""
    return [piece.shape if isinstance(piece, PackedWeight) else (-1,) for piece in pieces]


def _piece_name(name: str, index: int) -> str:
    """Name a piece of a parameter in a packed file: the first has the parameter's own name."""
    return f"{name}[{index}]" if index else name


def in_native_order(array: NDArray[Any]) -> NDArray[Any]:
    """Return `array` itself, or a copy with its bytes in the machine's order, as those of results are."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def as_float_array(caller: str, name: str, value: ArrayLike) -> NDArray[Any]:
    """Return `value` as an array of one of the four dtypes, or raise a TypeError that calls it `name`.

    Its bytes are in the machine's order, since a dtype of the other order equals none of the four.
    """
    array = as_array(f"{caller}: {name}", value)
    native = array.dtype.newbyteorder("=")
    if native not in _FLOATS:
        raise TypeError(
            f"{caller}: {name} has dtype {array.dtype}; float32, float64, float16 or bfloat16 is needed"
        )
    return array.astype(native, copy=False)
