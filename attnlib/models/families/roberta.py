"""RoBERTa (Liu et al., 2019) and XLM-RoBERTa: BERT whose positions begin after the padding token's number."""

from __future__ import annotations

from dataclasses import replace

from attnlib.models.families import bert
from attnlib.models.files.config import JsonFile

__all__ = ["NAMES", "read_config"]

NAMES = replace(bert.NAMES, prefixes=("roberta.",))


def read_config(file: JsonFile) -> bert.BertConfig:
    """Read the ``config.json`` of a RoBERTa or XLM-RoBERTa model."""
    config = bert.read_config(file)
    padding = file.integer("pad_token_id", 0, config.max_position_embeddings - 2, default=1)
    return replace(config, first_position=padding + 1)
