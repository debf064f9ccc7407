"""MPNet (Song et al., 2020): RoBERTa's positions, and a bias on the scores by the distance of two tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from attnlib.models import bert
from attnlib.models.config import JsonFile
from attnlib.nn.module import ArrayParameter, normal

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
    other={"relative_attention_bias": "encoder.relative_attention_bias.weight"},
)

# The buckets of T5 (Raffel et al., 2020) for one direction: distances below 8 have one each, then two make a
# doubling, and from 91 on all share the last. Bucket k begins at the k-th of these distances.
_EDGES = np.array([1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91])
_BUCKETS = 2 * (len(_EDGES) + 1)


def read_config(file: JsonFile) -> bert.BertConfig:
    """Read the ``config.json`` of an MPNet model."""
    file.integer("relative_attention_num_buckets", _BUCKETS, _BUCKETS, default=_BUCKETS)
    config = bert.read_sizes(file)
    # Positions begin after the padding token's number, which the architecture fixes.
    if config.max_position_embeddings <= 2:
        raise file.error("max_position_embeddings", f"leaves no positions: {config.max_position_embeddings}")
    return replace(config, first_position=2)


class MPNetModel(bert.BertModel):
    """BERT whose scores have a bias by distance, the same in all layers.

    Attributes
    ----------
    relative_attention_bias : (32, H)
        For each head: what is added in each bucket of distances, 16 back and 16 ahead.
    """

    def __init__(self, config: bert.BertConfig) -> None:
        super().__init__(config)
        self.relative_attention_bias = ArrayParameter((_BUCKETS, config.num_attention_heads), normal)

    def __call__(self, ids: NDArray[np.intp], cu_seqlens: NDArray[np.intp]) -> NDArray[Any]:
        """Run the encoder; parameters, result and errors as for `BertModel`."""
        x = self.embed(ids, cu_seqlens)
        longest = int(np.diff(cu_seqlens).max(initial=1))
        return self.encoder(x, bias=self._bias(longest), cu_seqlens=cu_seqlens)

    def _bias(self, length: int) -> NDArray[Any]:
        """Make the bias (H, length, length), in which element (h, i, j) depends on j - i alone."""
        distances = np.arange(1 - length, length)
        buckets = np.searchsorted(_EDGES, np.abs(distances), side="right") + _BUCKETS // 2 * (distances > 0)
        by_distance = np.ascontiguousarray(self.relative_attention_bias.value[buckets].T)
        # Row i of the matrix is the window that begins at distance -i: a view, each value is stored once.
        return sliding_window_view(by_distance, length, axis=1)[:, ::-1]
