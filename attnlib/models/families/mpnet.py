"""MPNet (Song et al., 2020): RoBERTa's positions, and a bias on the scores by the distance of two tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnlib.models.families import bert
from attnlib.models.files.config import JsonFile
from attnlib.nn.positions import RelativePositionBias

__all__ = ["NAMES", "MPNetModel", "read_config"]

NAMES = bert.WeightNames(
    prefixes=("mpnet.",),
    word="embeddings.word_embeddings",
    position="embeddings.position_embeddings",
    token_type=None,
    norm="embeddings.LayerNorm",
    layer={
        "self_attn.in_proj_": (
            "encoder.layer.{i}.attention.attn.q",
            "encoder.layer.{i}.attention.attn.k",
            "encoder.layer.{i}.attention.attn.v",
        ),
        "self_attn.out_proj.": ("encoder.layer.{i}.attention.attn.o",),
        "norm1.": ("encoder.layer.{i}.attention.LayerNorm",),
        "linear1.": ("encoder.layer.{i}.intermediate.dense",),
        "linear2.": ("encoder.layer.{i}.output.dense",),
        "norm2.": ("encoder.layer.{i}.output.LayerNorm",),
    },
    other={"relative_attention_bias.weight": "encoder.relative_attention_bias.weight"},
)

# The architecture fixes it, and the distance of 128 up to which buckets grow.
_BUCKETS = 32


def read_config(file: JsonFile) -> bert.BertConfig:
    """Read the ``config.json`` of an MPNet model."""
    file.integer("relative_attention_num_buckets", _BUCKETS, _BUCKETS, default=_BUCKETS)
    config = bert.read_sizes(file)
    # Positions begin after the padding token's number, which the architecture fixes.
    if config.max_position_embeddings <= 2:
        raise file.error("max_position_embeddings", f"leaves no positions: {config.max_position_embeddings}")
    return replace(config, first_position=2)


class MPNetModel(bert.BertModel):
    """BERT whose scores have a bias by distance, that of T5, the same in all layers.

    Attributes
    ----------
    relative_attention_bias : RelativePositionBias(32, H)
    """

    def __init__(self, config: bert.BertConfig) -> None:
        super().__init__(config)
        self.relative_attention_bias = RelativePositionBias(_BUCKETS, config.num_attention_heads)

    def __call__(self, ids: NDArray[np.intp], cu_seqlens: NDArray[np.intp]) -> NDArray[Any]:
        """Run the encoder; parameters, result and errors as for `BertModel`."""
        x = self.embed(ids, cu_seqlens)
        longest = int(np.diff(cu_seqlens).max(initial=1))
        return self.encoder(x, bias=self.relative_attention_bias(longest), cu_seqlens=cu_seqlens)
