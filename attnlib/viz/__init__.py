"""Seeing attention: heat maps, a page to explore heads with, and statistics of long sequences.

`attention_weights` runs a model over a text and keeps what every head attends to; `heat_map` draws it (with
the extra ``viz``: ``pip install "attnlib[viz]"``), `head_view` makes a page of it that needs nothing but a
browser. `record_attention` does the same for layers and models of your own, `attention_statistics` for
sequences whose weights no memory could hold.
"""

from attnlib.viz.attention_maps import AttentionMaps
from attnlib.viz.attention_weights import attention_weights, encoder_decoder_weights
from attnlib.viz.head_view import HeadView, head_view
from attnlib.viz.heat_map import heat_map
from attnlib.viz.recording import record_attention
from attnlib.viz.statistics import AttentionStatistics, attention_statistics
from attnlib.viz.token_labels import token_label

__all__ = [
    "AttentionMaps",
    "AttentionStatistics",
    "HeadView",
    "attention_statistics",
    "attention_weights",
    "encoder_decoder_weights",
    "head_view",
    "heat_map",
    "record_attention",
    "token_label",
]
