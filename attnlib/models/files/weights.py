"""Giving a model the tensors of a checkpoint, whatever the checkpoint calls them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.families.bert import BertModel, WeightNames
from attnlib.models.files.checkpoint import naming, stacked
from attnlib.models.files.safetensors_file import SafetensorsFile
from attnlib.nn import TransformerEncoderLayer

__all__ = ["load_weights"]


class _Tensors:
    """The tensors of a file under the names that `names` expects."""

    def __init__(self, file: SafetensorsFile, names: WeightNames) -> None:
        self._file = file
        self._actual = {_plain(name, names.prefixes): name for name in file.shapes}
        self._scopes = tuple({stem.split("{i}")[0] for parts in names.layer.values() for stem in parts})

    def check(self, expected: dict[str, tuple[int, ...]]) -> None:
        """Raise one error that names every tensor that is missing, misshapen or in a layer too many."""
        shapes = self._file.shapes
        complaints = []
        for name, shape in expected.items():
            if name not in self._actual:
                other = self._file.other_dtypes.get(name)
                complaints.append(f"{name} is missing" if other is None else f"{name} has dtype {other}")
            elif (found := shapes[self._actual[name]]) != shape:
                complaints.append(f"{name} is {found}, config.json wants {shape}")
        complaints += [
            f"{actual} is not part of the model in config.json"
            for name, actual in self._actual.items()
            if name.startswith(self._scopes) and name not in expected
        ]
        if complaints:
            shown = "; ".join(complaints[:10])
            more = f"; and {len(complaints) - 10} more" if len(complaints) > 10 else ""
            raise ValueError(f"{self._file.path}: {shown}{more}")

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._file.tensor(self._actual[name])


# As `fill` does.
@np.errstate(over="ignore", invalid="ignore")
def load_weights(model: BertModel, file: SafetensorsFile, names: WeightNames) -> None:
    """Give `model` the tensors of `file`, one layer at a time.

    Tensors outside the encoder (poolers, the heads of tasks) are left alone.

    Raises
    ------
    ValueError
        If tensors are missing, have another shape than the model wants, or belong to layers that it does not
        have. All are named, with the file.
    """
    config = model.config
    width = config.hidden_size
    tensors = _Tensors(file, names)
    expected = {
        f"{names.word}.weight": (config.vocab_size, width),
        f"{names.position}.weight": (config.max_position_embeddings, width),
        f"{names.norm}.weight": (width,),
        f"{names.norm}.bias": (width,),
    }
    if names.token_type is not None:
        expected[f"{names.token_type}.weight"] = (config.type_vocab_size, width)
    slots = dict(model.named_parameters())
    expected.update({tensor: slots[parameter].shape for parameter, tensor in names.other.items()})
    for index, layer in enumerate(model.encoder.layers):
        for _, parts, shape in _layer_parameters(layer, names, index):
            expected.update({part: (shape[0] // len(parts), *shape[1:]) for part in parts})
    tensors.check(expected)

    # Of a layer, the message says which parameter.
    with naming(file.path, "weights"):
        _store(model, tensors, names)


def _store(model: BertModel, tensors: _Tensors, names: WeightNames) -> None:
    """Give `model` the tensors, which were checked."""
    config = model.config
    slots = dict(model.named_parameters())
    model.word_embeddings.load_state_dict({"weight": tensors[f"{names.word}.weight"]})
    positions = tensors[f"{names.position}.weight"][config.first_position :]
    if names.token_type is not None:
        positions = positions.astype(np.float32) + tensors[f"{names.token_type}.weight"][0].astype(np.float32)
    model.position_embeddings.store(positions)
    model.norm.load_state_dict({kind: tensors[f"{names.norm}.{kind}"] for kind in ("weight", "bias")})
    for parameter, tensor in names.other.items():
        slots[parameter].store(tensors[tensor])
    for index, layer in enumerate(model.encoder.layers):
        state = {}
        for parameter, parts, _ in _layer_parameters(layer, names, index):
            arrays = [tensors[part] for part in parts]
            state[parameter] = arrays[0] if len(arrays) == 1 else stacked(arrays)
        layer.load_state_dict(state)


def _layer_parameters(
    layer: TransformerEncoderLayer, names: WeightNames, index: int
) -> Iterator[tuple[str, list[str], tuple[int, ...]]]:
    """Yield each parameter of layer `index`, the tensors that make it, and its shape."""
    for parameter, slot in layer.named_parameters():
        start = next(start for start in names.layer if parameter.startswith(start))
        kind = parameter[len(start) :]
        yield parameter, [f"{stem.format(i=index)}.{kind}" for stem in names.layer[start]], slot.shape


def _plain(name: str, prefixes: tuple[str, ...]) -> str:
    """Return the name without a task model's prefix, and with the present names of a norm's parameters."""
    for prefix in prefixes:
        name = name.removeprefix(prefix)
    # Checkpoints converted from TensorFlow keep its names for these.
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
