"""Layers for inference, batch first, with the names of ``torch.nn``."""

from attnlib.nn.attention import MultiheadAttention
from attnlib.nn.convolution import Conv1d
from attnlib.nn.embedding import Embedding
from attnlib.nn.encoder import TransformerEncoder, TransformerEncoderLayer
from attnlib.nn.gru import GRU
from attnlib.nn.linear import Linear
from attnlib.nn.lstm import LSTM
from attnlib.nn.module import Module
from attnlib.nn.normalization import LayerNorm, RMSNorm
from attnlib.nn.recurrent import RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Conv1d",
    "Embedding",
    "LayerNorm",
    "Linear",
    "Module",
    "MultiheadAttention",
    "RMSNorm",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]
