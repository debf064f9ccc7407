"""What parameters of Whisper and Marian are called in Hugging Face folders, and Whisper's in CTranslate2's.

In the former both have the names of BART, on which they are modelled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.files.checkpoint import Checkpoint, Source

__all__ = ["WithZeros", "ctranslate2_source", "huggingface_source"]

# Parts of a layer. Norms stand in the order of their sublayers, of which the encoder has no second.
_HUGGINGFACE_PARTS = {
    "self_attn.out_proj": "self_attn.out_proj",
    "multihead_attn.out_proj": "encoder_attn.out_proj",
    "linear1": "fc1",
    "linear2": "fc2",
}
_HUGGINGFACE_NORMS = {
    "encoder": {"norm1": "self_attn_layer_norm", "norm2": "final_layer_norm"},
    "decoder": {
        "norm1": "self_attn_layer_norm",
        "norm2": "encoder_attn_layer_norm",
        "norm3": "final_layer_norm",
    },
}

# CTranslate2 stacks the projections of queries, keys and values where all come from the same place.
_CTRANSLATE2_PARTS = {
    "self_attn.in_proj": ("self_attention/linear_0",),
    "self_attn.out_proj": ("self_attention/linear_1",),
    "multihead_attn.in_proj": ("attention/linear_0", "attention/linear_1"),
    "multihead_attn.out_proj": ("attention/linear_2",),
    "linear1": ("ffn/linear_0",),
    "linear2": ("ffn/linear_1",),
}
_CTRANSLATE2_NORMS = {
    "encoder": {"norm1": "self_attention", "norm2": "ffn"},
    "decoder": {"norm1": "self_attention", "norm2": "attention", "norm3": "ffn"},
}

_POSITIONS = {"source_positions": "encoder", "target_positions": "decoder"}


def huggingface_source(parameter: str) -> Source:
    """Find the tensors of a parameter of `WhisperModel` or `MarianModel`: ``encoder.layers.3.norm1.bias``."""
    if parameter in _POSITIONS:
        return Source((f"model.{_POSITIONS[parameter]}.embed_positions.weight",))
    module, kind = _split(parameter)
    if module.startswith("conv"):
        return Source((f"model.encoder.{module}.{kind}",))
    side, number, part = _place(module)
    if number is None:
        return Source((f"model.{side}.layer_norm.{kind}",))
    layer = f"model.{side}.layers.{number}."
    if part in _HUGGINGFACE_NORMS[side]:
        return Source((f"{layer}{_HUGGINGFACE_NORMS[side][part]}.{kind}",))
    if part.endswith("in_proj"):
        attention = "self_attn" if part.startswith("self") else "encoder_attn"
        return Source(tuple(f"{layer}{attention}.{name}_proj.{kind}" for name in "qkv"))
    return Source((f"{layer}{_HUGGINGFACE_PARTS[part]}.{kind}",))


def ctranslate2_source(parameter: str) -> Source:
    """Find the variables of a parameter of `WhisperModel`."""
    if parameter in _POSITIONS:
        return Source((f"{_POSITIONS[parameter]}/position_encodings/encodings",))
    module, kind = _split(parameter)
    if module.startswith("conv"):
        return Source((f"encoder/{module}/{kind}",))
    side, number, part = _place(module)
    norm_kind = {"weight": "gamma", "bias": "beta"}[kind]
    if number is None:
        return Source((f"{side}/layer_norm/{norm_kind}",))
    layer = f"{side}/layer_{number}/"
    if part in _CTRANSLATE2_NORMS[side]:
        return Source((f"{layer}{_CTRANSLATE2_NORMS[side][part]}/layer_norm/{norm_kind}",))
    return Source(tuple(f"{layer}{name}/{kind}" for name in _CTRANSLATE2_PARTS[part]))


def _split(parameter: str) -> tuple[str, str]:
    """Split off ``weight`` or ``bias``, which may hang on by an underscore as in ``in_proj_weight``."""
    kind = "weight" if parameter.endswith("weight") else "bias"
    return parameter[: -len(kind) - 1], kind


def _place(module: str) -> tuple[str, str | None, str]:
    """Split ``decoder.layers.3.linear1`` into side, layer and part; a norm at the end has no layer."""
    side, _, rest = module.partition(".")
    if rest == "norm":
        return side, None, rest
    _, number, part = rest.split(".", 2)
    return side, number, part


class WithZeros:
    """A checkpoint with vectors of zeros beside its tensors: the biases that Whisper's keys do not have.

    A bias of the keys would add the same to all scores of a query, which changes no weight of attention.

    Parameters
    ----------
    checkpoint
        The rest.
    sources
        Of all parameters.
    size
        Of the zeros.
    """

    def __init__(self, checkpoint: Checkpoint, sources: Iterable[Source], size: int) -> None:
        self.path = checkpoint.path
        self._checkpoint = checkpoint
        names = {name for source in sources for name in source.names}
        self._zeros = {name: (size,) for name in names if name.endswith("k_proj.bias")}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        return {**self._checkpoint.shapes, **self._zeros}

    def tensor(self, name: str) -> NDArray[Any]:
        """Return a tensor, or zeros."""
        return (
            np.zeros(self._zeros[name], np.float32) if name in self._zeros else self._checkpoint.tensor(name)
        )

    def rows(self, name: str, numbers: NDArray[np.intp]) -> NDArray[Any]:
        """Return rows of a matrix."""
        return self._checkpoint.rows(name, numbers)

    def forget(self, name: str) -> None:
        """Let go of the memory in which a tensor was read."""
        if name not in self._zeros:
            self._checkpoint.forget(name)
