"""Stacks of layers in one native call, to the same bits, if tokens are few and the layers plain.

Everything else is left to the layers' own calls, and so is what the native call refuses: they say in their
own words what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from attnlib.functional import (
    DecoderLayerParts,
    DecoderLayerPast,
    EncoderLayerParts,
    decoder_layers,
    encoder_layers,
)
from attnlib.functional.observer import OBSERVER
from attnlib.nn.attention import MultiheadAttention
from attnlib.nn.collected import collected
from attnlib.nn.decoder_past import DecoderPast
from attnlib.nn.linear import Linear
from attnlib.nn.module import ArrayParameter
from attnlib.nn.normalization import LayerNorm

if TYPE_CHECKING:
    from attnlib.nn.decoder_layer import TransformerDecoderLayer
    from attnlib.nn.encoder import TransformerEncoderLayer

__all__ = ["decode_in_one_call", "encode_in_one_call"]

_Layer = TypeVar("_Layer")
_Parts = TypeVar("_Parts")

# So few tokens go through all layers in one native call. The gain was measured with 1 and with 16 tokens; the
# more there are, the smaller a part of their time are Python and the waking of threads. 64 was chosen, not
# measured.
FEW_TOKENS = 64


def encode_in_one_call(
    layers: Sequence[TransformerEncoderLayer],
    x: NDArray[Any],
    causal: bool,
    cu_seqlens: NDArray[np.integer[Any]] | None,
) -> NDArray[Any] | None:
    """Run all encoder layers on (S, E), (B, S, E) or packed sequences; None if that is left to them."""
    if not 2 <= x.ndim <= (3 if cu_seqlens is None else 2) or not _are_few(layers, x):
        return None
    parts = _all_parts(layers, x, _encoder_parts)
    if parts is None:
        return None
    if cu_seqlens is None:
        cu_seqlens = np.arange(0, x.size // x.shape[-1] + 1, x.shape[-2])
    try:
        result = encoder_layers(x.reshape(-1, x.shape[-1]), parts, cu_seqlens, causal=causal).reshape(x.shape)
    except (TypeError, ValueError):
        return None
    # Weights of a wider dtype widen what each layer makes one after the other, not all from the beginning.
    return result if result.dtype == x.dtype else None


def decode_in_one_call(
    layers: Sequence[TransformerDecoderLayer], x: NDArray[Any], past: DecoderPast
) -> NDArray[Any] | None:
    """Run all decoder layers on new tokens (B, S, E), causally; None if that is left to them.

    The tokens are added to the past, unless the call raises or the result is None.
    """
    target, memory = past.target, past.memory
    if (
        x.ndim != 3
        or len(x) != past.batch_size
        or not (x.dtype == target.dtype == memory.dtype)
        or target.window is not None
        or memory.window is not None
        or not _are_few(layers, x)
    ):
        return None
    parts = _all_parts(layers, x, _decoder_parts)
    if parts is None:
        return None

    def step(caches: list[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]]) -> NDArray[Any]:
        pasts = [DecoderLayerPast(*cache, *memory.read(index)) for index, cache in enumerate(caches)]
        result = decoder_layers(x, parts, pasts)
        if result.dtype != x.dtype:
            raise TypeError("a weight of a wider dtype widens what each layer makes")
        return result

    try:
        return target.extend(None, x.shape[1], step)
    except (TypeError, ValueError):
        return None


def _are_few(layers: Sequence[Any], x: NDArray[Any]) -> bool:
    """Whether these layers may take these tokens in one call."""
    return 0 < x.size <= FEW_TOKENS * x.shape[-1] and len(layers) > 0 and OBSERVER.get() is None


def _all_parts(
    layers: Sequence[_Layer], x: NDArray[Any], parts_of: Callable[[_Layer, NDArray[Any]], _Parts | None]
) -> list[_Parts] | None:
    """Collect what layers consist of, if each of them is plain; or have it from an earlier call.

    Collecting takes 70 microseconds of the 3,500 that MiniLM's 6 layers take for a text of 16 tokens.
    """
    layers = tuple(layers)  # once: another thread may replace a layer at the same time

    def collect() -> list[_Parts] | None:
        parts = []
        for layer in layers:
            part = parts_of(layer, x)
            if part is None:
                return None
            parts.append(part)
        return parts

    return collected(layers, (x.dtype, x.shape[-1]), collect)


def _encoder_parts(layer: TransformerEncoderLayer, x: NDArray[Any]) -> EncoderLayerParts | None:
    """Collect what a layer consists of; None unless it is plain, and its arrays are of the dtype of `x`."""
    attention, linear1, linear2 = layer.self_attn, layer.linear1, layer.linear2
    norms = (layer.norm1, layer.norm2)
    if not (_plain_attention(attention, x) and _plain_linears((linear1, linear2)) and _plain_norms(norms, x)):
        return None
    assert attention.in_proj_weight is not None
    in_proj = attention.in_proj_weight.cut(1)
    biases = (attention.in_proj_bias, attention.out_proj.bias, linear1.bias, linear2.bias)
    arrays = _values((*biases, *(parameter for norm in norms for parameter in (norm.weight, norm.bias))), x)
    if arrays is None or len(in_proj) > 1:
        return None
    return EncoderLayerParts(
        in_proj=in_proj[0],
        in_bias=arrays[0],
        out_proj=attention.out_proj.weight.value,
        out_bias=arrays[1],
        linear1=linear1.weight.value,
        linear1_bias=arrays[2],
        linear2=linear2.weight.value,
        linear2_bias=arrays[3],
        norm1_weight=arrays[4],
        norm1_bias=arrays[5],
        norm1_eps=norms[0].eps,
        norm2_weight=arrays[6],
        norm2_bias=arrays[7],
        norm2_eps=norms[1].eps,
        heads=attention.num_heads,
        activation=layer.activation,
        norm_first=bool(layer.norm_first),
    )


def _decoder_parts(layer: TransformerDecoderLayer, x: NDArray[Any]) -> DecoderLayerParts | None:
    """Do the same for a decoder's layer."""
    attention, cross, linear1, linear2 = layer.self_attn, layer.multihead_attn, layer.linear1, layer.linear2
    norms = (layer.norm1, layer.norm2, layer.norm3)
    if not (
        _plain_attention(attention, x)
        and _plain_attention(cross, x)
        and attention.num_heads == cross.num_heads
        and _plain_linears((linear1, linear2))
        and _plain_norms(norms, x)
    ):
        return None
    assert attention.in_proj_weight is not None
    assert cross.in_proj_weight is not None
    in_proj, query_proj = attention.in_proj_weight.cut(1), cross.in_proj_weight.cut(2)[0]
    biases = (
        attention.in_proj_bias,
        attention.out_proj.bias,
        cross.in_proj_bias,
        cross.out_proj.bias,
        linear1.bias,
        linear2.bias,
    )
    arrays = _values((*biases, *(parameter for norm in norms for parameter in (norm.weight, norm.bias))), x)
    if arrays is None or len(in_proj) > 1:
        return None
    return DecoderLayerParts(
        in_proj=in_proj[0],
        in_bias=arrays[0],
        out_proj=attention.out_proj.weight.value,
        out_bias=arrays[1],
        query_proj=query_proj,
        query_bias=None if arrays[2] is None else arrays[2][: x.shape[-1]],
        memory_out_proj=cross.out_proj.weight.value,
        memory_out_bias=arrays[3],
        linear1=linear1.weight.value,
        linear1_bias=arrays[4],
        linear2=linear2.weight.value,
        linear2_bias=arrays[5],
        norm1_weight=arrays[6],
        norm1_bias=arrays[7],
        norm1_eps=norms[0].eps,
        norm2_weight=arrays[8],
        norm2_bias=arrays[9],
        norm2_eps=norms[1].eps,
        norm3_weight=arrays[10],
        norm3_bias=arrays[11],
        norm3_eps=norms[2].eps,
        heads=attention.num_heads,
        activation=layer.activation,
        norm_first=bool(layer.norm_first),
    )


def _plain_attention(attention: MultiheadAttention, x: NDArray[Any]) -> bool:
    return (
        type(attention) is MultiheadAttention
        and type(attention.out_proj) is Linear
        and attention.embed_dim == attention.num_heads * attention.head_dim == x.shape[-1]
        and attention.in_proj_weight is not None
    )


def _plain_linears(linears: Iterable[Linear]) -> bool:
    return all(type(linear) is Linear for linear in linears)


def _plain_norms(norms: Iterable[LayerNorm], x: NDArray[Any]) -> bool:
    return all(type(norm) is LayerNorm and norm.normalized_shape == x.shape[-1:] for norm in norms)


def _values(parameters: Iterable[ArrayParameter | None], x: NDArray[Any]) -> list[NDArray[Any] | None] | None:
    """Give the arrays of parameters, if all that there are have the dtype of `x`."""
    arrays = [None if parameter is None else parameter.value for parameter in parameters]
    return None if any(array is not None and array.dtype != x.dtype for array in arrays) else arrays
