"""The tensors of a checkpoint, in whichever files it is, and giving them to a model layer by layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from attnlib.models.files.config import JsonFile, stays_inside
from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.models.memory import trim
from attnlib.nn.module import Parameter

__all__ = ["Change", "Checkpoint", "Source", "fill", "naming", "open_safetensors", "stacked"]

Change = Callable[[NDArray[Any]], NDArray[Any]]

# A parameter that stays as the file has it is a view of the file, unless it has fewer bytes than this: a
# norm's weight that is read for every token would keep the pages around it in memory, thirty times its size.
_LEAST_VIEW = 64 << 10

# The first number of a tensor's name is that of its layer: "model.layers.3.", "blk.3.", "decoder/layer_3/".
_LAYER = re.compile(r"(.*?[./_])(\d+)[./]")

_HALVES = {np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)}


class Checkpoint(Protocol):
    """What the readers of safetensors and GGUF files have in common."""

    path: Path

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""

    def tensor(self, name: str) -> NDArray[Any]:
        """Return a tensor of floats, read-only if it is a view of the file."""

    def rows(self, name: str, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of a matrix."""

    def forget(self, name: str) -> None:
        """Let go of the memory in which a tensor was read; it can be read again."""


@dataclass(frozen=True)
class Source:
    """Where a parameter comes from.

    Parameters
    ----------
    names
        The tensors, stacked along their first axis.
    changes
        What to do to a tensor of `names` first, leaving its shape; one that is not here is taken as it is.
    transposed
        Whether the file has the parameter's transpose.
    """

    names: tuple[str, ...]
    changes: Mapping[str, Change] = field(default_factory=dict)
    transposed: bool = False


class ShardedSafetensors:
    """The tensors of several safetensors files, as ``model.safetensors.index.json`` lists them.

    Raises
    ------
    FileNotFoundError, ValueError
        If the index or one of its files is missing or malformed, or a tensor is not in its file.
    """

    def __init__(self, index: Path) -> None:
        self.path = index
        file = JsonFile(index)
        places = file.get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
            raise file.error("weight_map", "must map tensors to files")
        shards: dict[str, SafetensorsFile] = {}
        self._places: dict[str, SafetensorsFile] = {}
        for name, place in places.items():
            if len(PurePosixPath(place).parts) != 1 or not stays_inside(place):
                raise file.error("weight_map", f"leaves the folder: {place!r}")
            if place not in shards:
                shards[place] = SafetensorsFile(index.parent / place)
            self._places[name] = shards[place]
        shapes = {shard.path: shard.shapes for shard in shards.values()}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for name, shard in self._places.items():
            if name in shapes[shard.path]:
                self._shapes[name] = shapes[shard.path][name]
            elif name not in shard.other_dtypes:
                raise file.error("weight_map", f"places {name} in {shard.path.name}, where it is not")

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each float tensor."""
        return dict(self._shapes)

    def tensor(self, name: str) -> NDArray[Any]:
        """Return the tensor `name` of `shapes`, a read-only view of its file."""
        return self._places[name].tensor(name)

    def rows(self, name: str, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of a matrix."""
        rows: NDArray[Any] = self.tensor(name)[numbers]
        return rows

    def forget(self, name: str) -> None:
        """Let go of the memory in which the tensor `name` was read."""
        self._places[name].forget(name)


def open_safetensors(folder: Path) -> Checkpoint:
    """Open ``model.safetensors`` of a folder, or the shards that its index lists."""
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        return ShardedSafetensors(index)
    return SafetensorsFile(folder / "model.safetensors")


@contextmanager
def naming(path: Path, tensor: str) -> Iterator[None]:
    """Have errors about what a tensor holds name it and its file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {tensor}: {error}") from None


# Weights may be anything in a broken file, and floats that are too large for another dtype.
@np.errstate(over="ignore", invalid="ignore")
def fill(slots: Mapping[str, Parameter[Any]], sources: Mapping[str, Source], checkpoint: Checkpoint) -> None:
    """Give each parameter its tensors, one parameter at a time, so that no more than one lies unpacked.

    Raises
    ------
    ValueError
        If tensors are missing, of another shape than the configuration wants, or of layers that it does not
        have: a model without these would silently be another. All are named, of layers too many the first.
    """
    shapes = checkpoint.shapes
    complaints = []
    for parameter, source in sources.items():
        missing = [name for name in source.names if name not in shapes]
        complaints += [f"{name} is missing" for name in missing]
        wanted = slots[parameter].shape[:: -1 if source.transposed else 1]
        if not missing and (found := _joined(source, shapes)) != wanted:
            complaints.append(f"{' with '.join(source.names)} is {found}, the configuration wants {wanted}")
    complaints += _layers_too_many(sources.values(), shapes)
    if complaints:
        more = f"; and {len(complaints) - 10} more" if len(complaints) > 10 else ""
        raise ValueError(f"{checkpoint.path}: {'; '.join(complaints[:10])}{more}")
    for parameter, source in sources.items():
        parts = [source.changes.get(name, _same)(checkpoint.tensor(name)) for name in source.names]
        array = parts[0] if len(parts) == 1 else stacked(parts)
        if array.nbytes < _LEAST_VIEW:
            array = array.copy()
        with naming(checkpoint.path, " with ".join(source.names)):
            slots[parameter].store(array.T if source.transposed else array)
        del parts, array
        for name in source.names:
            checkpoint.forget(name)
        trim()


def stacked(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Stack tensors along their first axis; float16 with bfloat16 become float32, which holds both."""
    if {part.dtype for part in parts} == _HALVES:
        return np.concatenate([part.astype(np.float32) for part in parts])
    return np.concatenate(parts)


def _layers_too_many(sources: Iterable[Source], names: Iterable[str]) -> Iterator[str]:
    """Complain about the first tensor, in each stack of layers, that is in none of those of `sources`."""
    layers: dict[str, set[str]] = {}
    for source in sources:
        for name in source.names:
            if found := _LAYER.match(name):
                layers.setdefault(found[1], set()).add(found[2])
    for name in names:
        if (found := _LAYER.match(name)) and found[1] in layers and found[2] not in layers[found[1]]:
            number = len(layers.pop(found[1]))
            yield f"{name} is there, but the number of layers in the configuration is {number}"


def _joined(source: Source, shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Find the shape of the tensors stacked; where the others do not fit the first, that of the odd one."""
    parts = [shapes[name] for name in source.names]
    odd = [part for part in parts if not part or part[1:] != parts[0][1:]]
    return odd[0] if odd else (sum(part[0] for part in parts), *parts[0][1:])


def _same(tensor: NDArray[Any]) -> NDArray[Any]:
    return tensor
