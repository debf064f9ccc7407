"""Operations on arrays: arrays in, arrays out. See each function for shapes, dtypes and errors.

Shared by all of them:

- Inputs are float32, float64, float16 or bfloat16 (``ml_dtypes.bfloat16``) arrays of any strides; what has a
  contiguous last axis is read in place, anything else is copied once. (Activations read in place what is
  contiguous along any axis, and lay out their results alike.) The result has the inputs' dtype; mixed
  dtypes promote as NumPy's do. float16 and bfloat16 accumulate in float32.
- ``out=`` takes a writable array of the result's shape and dtype, strided too; it may overlap an input.
- Integer, complex and masked arrays raise `TypeError`, wrong shapes and values `ValueError`; both name the
  argument.
- The bits of a result do not depend on the number of threads, on the batch size or on padding.
"""

from attnlib.functional.activations import gelu, relu, sigmoid, silu, swiglu, tanh
from attnlib.functional.attention import attention, attention_varlen, merge_attention
from attnlib.functional.cached_attention import cached_attention
from attnlib.functional.cached_self_attention import cached_self_attention
from attnlib.functional.decoder_layers import DecoderLayerParts, DecoderLayerPast, decoder_layers
from attnlib.functional.encoder_layers import EncoderLayerParts, encoder_layers
from attnlib.functional.gated_feed_forward import gated_feed_forward
from attnlib.functional.lstm_steps import lstm_steps
from attnlib.functional.matmul import PackedWeight, linear, linear_in_parts, matmul, pack_weight
from attnlib.functional.normalization import layer_norm, rms_norm
from attnlib.functional.observer import AttentionCall, observe_attention
from attnlib.functional.packed_file import load_packed, save_packed
from attnlib.functional.positions import rotary_embedding, sinusoidal_encoding
from attnlib.functional.softmax import log_softmax, softmax

__all__ = [
    "AttentionCall",
    "DecoderLayerParts",
    "DecoderLayerPast",
    "EncoderLayerParts",
    "PackedWeight",
    "attention",
    "attention_varlen",
    "cached_attention",
    "cached_self_attention",
    "decoder_layers",
    "encoder_layers",
    "gated_feed_forward",
    "gelu",
    "layer_norm",
    "linear",
    "linear_in_parts",
    "load_packed",
    "log_softmax",
    "lstm_steps",
    "matmul",
    "merge_attention",
    "observe_attention",
    "pack_weight",
    "relu",
    "rms_norm",
    "rotary_embedding",
    "save_packed",
    "sigmoid",
    "silu",
    "sinusoidal_encoding",
    "softmax",
    "swiglu",
    "tanh",
]
