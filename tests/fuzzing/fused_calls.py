"""Valid random arguments for calls that fuse several operations, and what those make of them one by one.

The operations themselves are judged against float64 elsewhere; fused, they promise the same bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ops.test_decoder_layers import copied
from ops.test_decoder_layers import one_by_one as decoded_one_by_one
from ops.test_encoder_layers import one_by_one
from ops.test_sublayers import in_four_calls

import attnlib as al
from attnlib import functional, viz

from .attention_calls import attention, attention_varlen, cached_attention
from .calls import MOST_COPIED, Call, Draw, same_values
from .finding import Finding

__all__ = ["FUSED"]

Arguments = dict[str, Any]


def _weights(draw: Draw) -> str | None:
    """Draw what the weights of one call are packed as."""
    draw.mixed = False
    # A product in float64 takes no weight of fewer bits, and a float weight of another dtype would widen
    # what is rounded in between.
    options = (None, "bfloat16", "int8", "int4") if draw.dtype == np.float32 else (None, "int8", "int4")
    return draw.pick((None,) if draw.dtype == np.float64 else options)


def _weight(draw: Draw, rows: int, columns: int) -> Any:
    """Draw a weight that keeps numbers about as large as they are."""
    return draw.array(rows, columns, scale=max(columns, 1) ** -0.5)


def _agree(call: Call, fused: Any, parts: Any) -> None:
    if not same_values(fused, parts):
        raise Finding(f"{call.name}: other bits than those of its operations: {fused} or {parts}")


def gated_feed_forward(draw: Draw) -> Call:
    """The second half of a Llama layer."""
    packed = _weights(draw)
    features, inner = draw.size(65), draw.size(65)
    arguments: Arguments = {
        "x": draw.array(*draw.batch(), draw.size(9), features) if draw.chance(0.8) else draw.array(features),
        "norm_weight": draw.array(features) if draw.chance(0.7) else None,
        "gate_up": _weight(draw, 2 * inner, features),
        "down": _weight(draw, features, inner),
        "eps": draw.pick((1e-6, 1e-5, 0.1)),
    }

    def function(x: Any, norm_weight: Any, gate_up: Any, down: Any, eps: Any, **out: Any) -> Any:
        weights = [al.pack_weight(weight, dtype=packed) for weight in (gate_up, down)]
        parts = None
        if call.valid:  # before what `out` may write to the input
            both = al.linear(al.rms_norm(x, norm_weight, eps=eps), weights[0])
            gated = al.swiglu(both[..., :inner], both[..., inner:])
            parts = al.linear(gated, weights[1], residual=x)
        fused = functional.gated_feed_forward(x, norm_weight, *weights, eps=eps, **out)
        if parts is not None:
            _agree(call, fused, parts)
        return fused

    call = Call(("gated_feed_forward", "pack_weight"), function, arguments, takes_out=True)
    return call


def linear_in_parts(draw: Draw) -> Call:
    """A weight in parts of any heights."""
    packed = _weights(draw)
    features, count = draw.size(), int(draw.rng.integers(1, 5))
    arguments: Arguments = {
        "x": draw.array(*draw.batch(), draw.size(17), features) if draw.chance(0.8) else draw.array(features)
    }
    arguments |= {f"weight{i}": _weight(draw, draw.size(), features) for i in range(count)}

    def function(x: Any, out: Any = None, **given: Any) -> Any:
        weights = [al.pack_weight(weight, dtype=packed) for weight in given.values()]
        parts = None
        if call.valid:
            parts = np.concatenate([al.linear(x, weight) for weight in weights], axis=-1)
        fused = functional.linear_in_parts(x, weights, out=out)
        if parts is not None:
            _agree(call, fused, parts)
        return fused

    call = Call(("linear_in_parts", "linear", "pack_weight"), function, arguments, takes_out=True)
    return call


def encoder_layers(draw: Draw) -> Call:
    """A stack of one layer, once or more."""
    packed = _weights(draw)
    heads = int(draw.rng.integers(1, 4))
    width, inner = heads * draw.size(17), draw.size(40)
    lengths = draw.rng.integers(0, 20, int(draw.rng.integers(0, 4)))
    count = int(draw.rng.integers(1, 4))
    arguments: Arguments = {
        "x": draw.array(int(lengths.sum()), width),
        "cu_seqlens": np.cumsum([0, *lengths]),
        "causal": draw.chance(0.4),
        "in_proj": _weight(draw, 3 * width, width),
        "out_proj": _weight(draw, width, width),
        "linear1": _weight(draw, inner, width),
        "linear2": _weight(draw, width, inner),
        "norm1_eps": draw.pick((1e-5, 0.1)),
        "norm2_eps": draw.pick((1e-12, 1e-5)),
        "heads": heads,
        "activation": draw.pick((None, "relu", "gelu", "gelu_tanh", "silu", "tanh")),
        "norm_first": draw.chance(0.5),
    }
    sizes = {"in_bias": 3 * width, "out_bias": width, "linear1_bias": inner, "linear2_bias": width}
    sizes |= dict.fromkeys(("norm1_weight", "norm1_bias", "norm2_weight", "norm2_bias"), width)
    arguments |= {name: draw.array(size) if draw.chance(0.6) else None for name, size in sizes.items()}

    def function(x: Any, cu_seqlens: Any, causal: Any, **parts: Any) -> Any:
        parts |= {
            name: al.pack_weight(parts[name], dtype=packed)
            for name in ("in_proj", "out_proj", "linear1", "linear2")
        }
        layers = [functional.EncoderLayerParts(**parts)] * count
        fused = functional.encoder_layers(x, layers, cu_seqlens, causal=causal)
        if call.valid:
            _agree(call, fused, one_by_one(x, layers, cu_seqlens, causal))
        return fused

    # Python says itself what is wrong with a truth value.
    names = ("encoder_layers", "pack_weight")
    call = Call(names, function, arguments, switches=("causal", "norm_first"))
    return call


def decoder_layers(draw: Draw) -> Call:
    """A stack of one layer, once or more, each with caches of its own that are partly full."""
    packed = _weights(draw)
    heads, batch, new = (int(draw.rng.integers(low, high)) for low, high in ((1, 4), (0, 4), (0, 6)))
    size, inner, places = draw.size(17), draw.size(40), draw.size(40)
    width, readers = heads * size, 1 if draw.chance(0.3) else batch
    capacity, count = new + draw.size(60), int(draw.rng.integers(1, 4))
    arguments: Arguments = {
        "x": draw.array(batch, new, width),
        "key_cache": draw.array(batch, heads, capacity, size),
        "value_cache": draw.array(batch, heads, capacity, size),
        "lengths": draw.rng.integers(0, capacity - new + 1, batch),
        "key": draw.array(readers, heads, places, size),
        "value": draw.array(readers, heads, places, size),
        "memory_lengths": draw.rng.integers(0, places + 1, readers),
        "in_proj": _weight(draw, 3 * width, width),
        "out_proj": _weight(draw, width, width),
        "query_proj": _weight(draw, width, width),
        "memory_out_proj": _weight(draw, width, width),
        "linear1": _weight(draw, inner, width),
        "linear2": _weight(draw, width, inner),
        "norm1_eps": draw.pick((1e-5, 0.1)),
        "norm2_eps": draw.pick((1e-12, 1e-5)),
        "norm3_eps": draw.pick((1e-12, 1e-5)),
        "heads": heads,
        "activation": draw.pick((None, "relu", "gelu", "gelu_tanh", "silu", "tanh")),
        "norm_first": draw.chance(0.5),
    }
    weights = [name for name in arguments if name.endswith("proj") or name.startswith("linear")]
    sizes = {"in_bias": 3 * width, "linear1_bias": inner}
    sizes |= dict.fromkeys(("out_bias", "query_bias", "memory_out_bias", "linear2_bias"), width)
    sizes |= {f"norm{number}_{part}": width for number in (1, 2, 3) for part in ("weight", "bias")}
    arguments |= {name: draw.array(size) if draw.chance(0.6) else None for name, size in sizes.items()}

    def function(x: Any, **given: Any) -> Any:
        before = {name: given.pop(name) for name in functional.DecoderLayerPast._fields}
        given |= {name: al.pack_weight(given[name], dtype=packed) for name in weights}
        layers = [functional.DecoderLayerParts(**given)] * count
        past = functional.DecoderLayerPast(**before)
        if not call.valid:
            return functional.decoder_layers(x, layers[:1], [past])
        pasts = [past._replace(key=np.asarray(past.key), value=np.asarray(past.value))] * count
        pasts, others = copied(pasts), copied(pasts)
        fused = functional.decoder_layers(x, layers, pasts)
        _agree(call, fused, decoded_one_by_one(np.asarray(x), layers, others))
        for mine, theirs in zip(pasts, others, strict=True):
            _agree(call, mine.key_cache, theirs.key_cache)
            _agree(call, mine.value_cache, theirs.value_cache)
        return fused

    names = ("decoder_layers", "pack_weight")
    call = Call(names, function, arguments, written=("key_cache", "value_cache"), switches=("norm_first",))
    return call


def cached_self_attention(draw: Draw) -> Call:
    """The first half of a Llama layer, over caches that are partly full."""
    packed = _weights(draw)
    batch, groups = int(draw.rng.integers(0, 4)), int(draw.rng.integers(1, 3))
    heads = groups * int(draw.rng.integers(1, 3))
    new, features, size = int(draw.rng.integers(0, 6)), draw.size(33), 1 + draw.size(33)
    capacity = new + draw.size(100)
    rows, turned = (heads + 2 * groups) * size, draw.chance(0.5)
    arguments: Arguments = {
        "x": draw.array(batch, new, features),
        "key_cache": draw.array(batch, groups, capacity, size),
        "value_cache": draw.array(batch, groups, capacity, size),
        "lengths": draw.rng.integers(0, capacity - new + 1, batch),
        "norm_weight": draw.array(features) if draw.chance(0.7) else None,
        "in_proj": _weight(draw, rows, features),
        "out_proj": _weight(draw, features, heads * size),
        "heads": heads,
        "groups": groups,
        "eps": draw.pick((1e-6, 1e-5, 0.1)),
        "in_bias": draw.array(rows) if draw.chance(0.4) else None,
        "out_bias": draw.array(features) if draw.chance(0.4) else None,
        "query_norm": draw.array(size) if draw.chance(0.3) else None,
        "key_norm": draw.array(size) if draw.chance(0.3) else None,
        "window": draw.pick((None, None, 1, 7)),
        "scale": draw.pick((None, 0.3)),
    }
    if turned:
        half = int(draw.rng.integers(size // 2 + 1))
        arguments |= {"cos": draw.array(capacity, half), "sin": draw.array(capacity, half)}
        if capacity and draw.chance(0.4):
            arguments["positions"] = draw.rng.integers(0, capacity, (batch, new))

    def function(x: Any, key_cache: Any, value_cache: Any, lengths: Any, **given: Any) -> Any:
        caches = [
            np.array(cache, subok=True)
            if isinstance(cache, np.ndarray) and cache.size <= MOST_COPIED
            else cache
            for cache in (key_cache, value_cache)
        ]
        given |= {name: al.pack_weight(given[name], dtype=packed) for name in ("in_proj", "out_proj")}
        copies = [cache.copy() for cache in caches] if call.valid else []
        fused = functional.cached_self_attention(x, *caches, lengths, **given)
        if call.valid:
            _agree(call, fused, in_four_calls(x, tuple(copies), lengths, given))
            for cache, copy in zip(caches, copies, strict=True):
                _agree(call, cache, copy)
        return fused, *caches

    names = ("cached_self_attention", "cached_attention", "rotary_embedding", "attention", "pack_weight")
    call = Call(names, function, arguments, written=("key_cache", "value_cache"))
    return call


def observed(draw: Draw) -> Call:
    """Attention that somebody watches: the same results, and weights for each call."""
    make = draw.pick((attention, attention_varlen, cached_attention, cached_self_attention))
    call: Call = make(draw)
    unobserved, recorded = call.function, draw.chance(0.5)

    def function(**arguments: Any) -> Any:
        if make is not attention and not call.valid:
            # Watched, these refuse some wrong arguments in NumPy's words.
            return unobserved(**arguments)
        seen: list[Any] = []
        if recorded:
            with viz.record_attention() as seen:
                results = unobserved(**arguments)
        else:
            with functional.observe_attention(seen.append):
                results = unobserved(**arguments)
        offsets = arguments.get("cu_seqlens_q")
        count = len(offsets) - 1 if call.valid and offsets is not None else 1
        if make is cached_self_attention:
            count = 2  # with what it is compared to
        kind = np.ndarray if recorded else functional.AttentionCall
        if call.valid and (len(seen) != count or not all(isinstance(x, kind) for x in seen)):
            raise Finding(f"instead of {count} calls {len(seen)} were observed: {seen}")
        return results

    call.function = function
    call.name = (*((call.name,) if isinstance(call.name, str) else call.name), "attention")
    return call


def dlpack(draw: Draw) -> Call:
    """There and back, on the same memory."""
    x = draw.array(*draw.batch(), draw.size(17), draw.size(17))
    if draw.chance(0.3):
        x = x.astype(draw.pick((np.int8, np.uint16, np.int64, np.bool_, np.complex64)))

    def function(x: Any) -> Any:
        if isinstance(x, np.ndarray) and not x.dtype.isnative:
            # DLPack has no other order of bytes, which is no wrong argument's fault.
            x = x.astype(x.dtype.newbyteorder("="))
        seen = al.from_dlpack(al.to_dlpack(x))
        if x.size and not np.shares_memory(seen, x):
            raise Finding("DLPack made a copy")
        if seen.dtype != x.dtype or (seen.strides != x.strides and x.size > 1):
            raise Finding(f"{x.dtype} strides {x.strides} became {seen.dtype} strides {seen.strides}")
        if x.size > MOST_COPIED:
            return np.zeros(0)
        if not same_values(seen, x):
            raise Finding(f"{x} became {seen}")
        return seen

    return Call(("from_dlpack", "to_dlpack"), function, {"x": x})


FUSED = (
    gated_feed_forward,
    linear_in_parts,
    encoder_layers,
    decoder_layers,
    cached_self_attention,
    observed,
    dlpack,
)
