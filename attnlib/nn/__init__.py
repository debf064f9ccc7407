"""Layers for inference, batch first, with the names of ``torch.nn``."""

from attnlib.nn.attention import MultiheadAttention
from attnlib.nn.convolution import Conv1d
from attnlib.nn.decoder import TransformerDecoder
from attnlib.nn.decoder_layer import TransformerDecoderLayer
from attnlib.nn.decoder_past import DecoderPast
from attnlib.nn.embedding import Embedding
from attnlib.nn.encoder import TransformerEncoder, TransformerEncoderLayer
from attnlib.nn.gru import GRU
from attnlib.nn.kv_cache import KVCache
from attnlib.nn.linear import Linear
from attnlib.nn.lstm import LSTM
from attnlib.nn.module import Module
from attnlib.nn.normalization import LayerNorm, RMSNorm
from attnlib.nn.positions import (
    LearnedPositionalEncoding,
    PositionalEncoding,
    RelativePositionBias,
    alibi_slopes,
)
from attnlib.nn.rnn import RNN
from attnlib.nn.transformer import Transformer

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Conv1d",
    "DecoderPast",
    "Embedding",
    "KVCache",
    "LayerNorm",
    "LearnedPositionalEncoding",
    "Linear",
    "Module",
    "MultiheadAttention",
    "PositionalEncoding",
    "RMSNorm",
    "RelativePositionBias",
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "alibi_slopes",
]
