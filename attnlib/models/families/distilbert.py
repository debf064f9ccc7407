"""DistilBERT (Sanh et al., 2019): BERT without token types, under other names."""

from __future__ import annotations

from attnlib.models.families import bert
from attnlib.models.files.config import JsonFile

__all__ = ["NAMES", "read_config"]

NAMES = bert.WeightNames(
    prefixes=("distilbert.",),
    word="embeddings.word_embeddings",
    position="embeddings.position_embeddings",
    token_type=None,
    norm="embeddings.LayerNorm",
    layer={
        "self_attn.in_proj_": (
            "transformer.layer.{i}.attention.q_lin",
            "transformer.layer.{i}.attention.k_lin",
            "transformer.layer.{i}.attention.v_lin",
        ),
        "self_attn.out_proj.": ("transformer.layer.{i}.attention.out_lin",),
        "norm1.": ("transformer.layer.{i}.sa_layer_norm",),
        "linear1.": ("transformer.layer.{i}.ffn.lin1",),
        "linear2.": ("transformer.layer.{i}.ffn.lin2",),
        "norm2.": ("transformer.layer.{i}.output_layer_norm",),
    },
)


def read_config(file: JsonFile) -> bert.BertConfig:
    """Read the ``config.json`` of a DistilBERT model."""
    return bert.read_sizes(
        file,
        {
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
        },
    )
