"""Layers with random sizes and inputs: right results stay the same however they are come by."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import attnlib as al
from attnlib import nn

from .calls import Draw, is_float, shown
from .finding import Finding
from .odd_arrays import dirty, float_layout
from .spoiling import spoil

__all__ = ["LAYERS", "use_layer"]

Made = tuple[Callable[..., Any], dict[str, Any], dict[str, Any]]
_MOST_SIZE = 1 << 12


def _linear(draw: Draw) -> Made:
    inputs, outputs = draw.size(65), draw.size(65)
    x = draw.array(2, draw.size(33), inputs)
    call = {"x": x, "activation": draw.pick((None, "relu", "gelu", "tanh"))}
    return nn.Linear, {"in_features": inputs, "out_features": outputs, "bias": draw.chance(0.5)}, call


def _embedding(draw: Draw) -> Made:
    rows = 1 + draw.size(65)
    ids = draw.rng.integers(0, rows, (2, draw.size(9)))
    return nn.Embedding, {"num_embeddings": rows, "embedding_dim": draw.size(33)}, {"x": ids}


def _norm(draw: Draw) -> Made:
    size = draw.size(65)
    kind = draw.pick((nn.LayerNorm, nn.RMSNorm))
    return (
        kind,
        {"normalized_shape": size, "eps": draw.pick((1e-5, None)) if kind is nn.RMSNorm else 1e-5},
        {"x": draw.array(2, draw.size(9), size)},
    )


def _conv(draw: Draw) -> Made:
    groups = int(draw.rng.integers(1, 4))
    inputs, outputs = groups * int(draw.rng.integers(1, 5)), groups * int(draw.rng.integers(1, 5))
    made = {
        "in_channels": inputs,
        "out_channels": outputs,
        "kernel_size": int(draw.rng.integers(1, 6)),
        "stride": int(draw.rng.integers(1, 4)),
        "padding": draw.pick((0, 1, 4, "valid")),
        "dilation": int(draw.rng.integers(1, 3)),
        "groups": groups,
        "bias": draw.chance(0.5),
    }
    return nn.Conv1d, made, {"x": draw.array(2, inputs, 9 + draw.size(65))}


def _recurrent(draw: Draw) -> Made:
    kind = draw.pick((nn.RNN, nn.LSTM, nn.GRU))
    size, hidden = draw.size(17), 1 + draw.size(17)
    made = {"input_size": size, "hidden_size": hidden, "num_layers": int(draw.rng.integers(1, 3))}
    made |= {"bidirectional": draw.chance(0.4), "bias": draw.chance(0.7)}
    return kind, made, {"x": draw.array(2, draw.size(9), size, dtype=draw.pick((np.float32, np.float64)))}


def _attention(draw: Draw) -> Made:
    heads = int(draw.rng.integers(1, 4))
    width, queries, keys = heads * int(draw.rng.integers(1, 17)), draw.size(17), draw.size(33)
    call: dict[str, Any] = {
        "query": draw.array(2, queries, width),
        "key": draw.array(2, keys, width),
        "mask": draw.rng.random((queries, keys)) < 0.8 if draw.chance(0.3) else None,
        "causal": draw.chance(0.5),
        "key_lengths": draw.rng.integers(0, keys + 1, 2) if draw.chance(0.4) else None,
        "need_weights": draw.chance(0.3),
    }
    return nn.MultiheadAttention, {"embed_dim": width, "num_heads": heads, "bias": draw.chance(0.5)}, call


def _encoder(draw: Draw) -> Made:
    heads = int(draw.rng.integers(1, 4))
    width, steps = heads * int(draw.rng.integers(1, 9)), draw.size(17)
    made = {
        "d_model": width,
        "nhead": heads,
        "dim_feedforward": draw.size(33),
        "norm_first": draw.chance(0.5),
    }
    made["activation"] = draw.pick(("relu", "gelu"))
    call: dict[str, Any] = {"x": draw.array(2, steps, width), "causal": draw.chance(0.4)}
    call["key_lengths"] = draw.rng.integers(0, steps + 1, 2) if draw.chance(0.4) else None
    return nn.TransformerEncoderLayer, made, call


def _decoder(draw: Draw) -> Made:
    heads = int(draw.rng.integers(1, 4))
    width, steps, keys = heads * int(draw.rng.integers(1, 9)), draw.size(17), draw.size(17)
    made = {
        "d_model": width,
        "nhead": heads,
        "dim_feedforward": draw.size(33),
        "norm_first": draw.chance(0.5),
    }
    call: dict[str, Any] = {"tgt": draw.array(2, steps, width), "memory": draw.array(2, keys, width)}
    call["causal"] = draw.chance(0.7)
    call["memory_lengths"] = draw.rng.integers(0, keys + 1, 2) if draw.chance(0.4) else None
    return nn.TransformerDecoderLayer, made, call


def _transformer(draw: Draw) -> Made:
    heads = int(draw.rng.integers(1, 3))
    width = heads * int(draw.rng.integers(1, 9))
    made = {
        "d_model": width,
        "nhead": heads,
        "num_encoder_layers": 1,
        "num_decoder_layers": int(draw.rng.integers(3)),
    }
    made["dim_feedforward"] = draw.size(17)
    return (
        nn.Transformer,
        made,
        {"src": draw.array(2, draw.size(9), width), "tgt": draw.array(2, draw.size(9), width)},
    )


def _encoder_stack(draw: Draw) -> Made:
    kind, sizes, call = _encoder(draw)
    norm = draw.pick((None, nn.LayerNorm(sizes["d_model"])))
    return (
        nn.TransformerEncoder,
        {"encoder_layer": kind(**sizes), "num_layers": draw.size(2), "norm": norm},
        call,
    )


def _decoder_stack(draw: Draw) -> Made:
    kind, sizes, call = _decoder(draw)
    norm = draw.pick((None, nn.LayerNorm(sizes["d_model"])))
    return (
        nn.TransformerDecoder,
        {"decoder_layer": kind(**sizes), "num_layers": draw.size(2), "norm": norm},
        call,
    )


def _positions(draw: Draw) -> Made:
    kind = draw.pick((nn.PositionalEncoding, nn.LearnedPositionalEncoding))
    width, longest = draw.size(17), 1 + draw.size(33)
    steps = int(draw.rng.integers(longest + 1))
    offset = draw.pick(
        (0, int(draw.rng.integers(longest - steps + 1)), draw.rng.integers(0, longest - steps + 1, 2))
    )
    return kind, {"d_model": width, "max_len": longest}, {"x": draw.array(2, steps, width), "offset": offset}


def _bias(draw: Draw) -> Made:
    made = {"num_buckets": 8 * int(draw.rng.integers(1, 5)), "num_heads": draw.size(5), "max_distance": 64}
    made["bidirectional"] = draw.chance(0.5)
    call = {"query_length": draw.size(17), "key_length": draw.size(33), "query_offset": draw.pick((None, 3))}
    return nn.RelativePositionBias, made, call


LAYERS = (
    _linear,
    _embedding,
    _norm,
    _conv,
    _recurrent,
    _attention,
    _encoder,
    _decoder,
    _transformer,
    _encoder_stack,
    _decoder_stack,
    _positions,
    _bias,
)


# What is made of constants takes no `rng`.
_WITHOUT_RNG = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.PositionalEncoding,
    nn.TransformerEncoder,
    nn.TransformerDecoder,
)


def use_layer(draw: Draw, make: Callable[[Draw], Made], notes: list[str]) -> None:
    """Make a layer, call it, and call what its state, its pickle and other layouts make of it."""
    draw.mixed = False
    kind, sizes, arguments = make(draw)
    valid = not _spoil(draw, sizes, arguments)
    dtype = draw.pick((None, None, "float32", "float64", "bfloat16", "float16", "int8", "int4"))
    notes.append(f"{kind.__name__}({sizes}).to({dtype})")
    notes.append(", ".join(f"{name}={shown(x)}" for name, x in arguments.items()))
    if _is_large(sizes) or _is_large(arguments):
        return

    def made() -> Any:
        layer = kind(**sizes, **({"rng": draw.rng} if kind not in _WITHOUT_RNG else {}))
        return layer if dtype is None else layer.to(dtype)

    try:
        layer = made()
    except (TypeError, ValueError) as error:
        if valid and not _refuses_dtype(error):
            raise
        return
    al.set_num_threads(1)
    found = _called(layer, arguments)
    if isinstance(found, Exception):
        if valid and not _refuses_dtype(found) and not _refuses_nan(found):
            raise found
        return
    odd = {name: float_layout(draw.rng, x) if is_float(x) else x for name, x in arguments.items()}
    al.set_num_threads(int(draw.rng.integers(1, 3)))
    _same("layout or threads", found, _called(layer, odd))
    _same("a pickle", found, _called(pickle.loads(pickle.dumps(layer)), arguments))
    if dtype not in ("int8", "int4"):
        again = made()
        again.load_state_dict(layer.state_dict())
        _same("its state", found, _called(again, arguments))


def _spoil(draw: Draw, sizes: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """Spoil a size or an argument now and then, and return whether; or put NaN and the like into one."""
    spoilt = False
    if draw.chance(0.15):
        # A switch is whatever Python takes for true.
        name = draw.pick([name for name, x in sizes.items() if not isinstance(x, bool)])
        sizes[name], spoilt = spoil(draw.rng, sizes[name]), True
    if draw.chance(0.25):
        name = draw.pick(list(arguments))
        arguments[name], spoilt = spoil(draw.rng, arguments[name]), True
    elif draw.chance(0.15):
        floats = [name for name, x in arguments.items() if is_float(x)]
        if floats:
            name = draw.pick(floats)
            arguments[name] = dirty(draw.rng, arguments[name])
    return spoilt


def _is_large(arguments: dict[str, Any]) -> bool:
    """Return whether it would be right to make layers, tables or results of gigabytes."""
    return any(
        (isinstance(x, (int, np.integer)) and abs(int(x)) > _MOST_SIZE)
        or (isinstance(x, np.ndarray) and x.size > 1 << 22)
        or isinstance(x, bytes)  # a sequence of numbers, which are sizes of axes
        for x in arguments.values()
    )


def _called(layer: Any, arguments: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return layer(**arguments)
        except (TypeError, ValueError) as error:
            return error


def _refuses_dtype(error: Exception) -> bool:
    """Return whether a combination of dtypes is refused, which is no matter of sizes."""
    return any(word in str(error) for word in ("dtype", "float64", "half", "float32", "int8", "int4"))


def _refuses_nan(error: Exception) -> bool:
    return any(word in str(error) for word in ("NaN", "nan", "inf"))


def _arrays(result: Any) -> list[Any]:
    if isinstance(result, (tuple, list)):
        return [array for part in result for array in _arrays(part)]
    return [np.asarray(result)]


def _same(what: str, one: Any, other: Any) -> None:
    if isinstance(other, Exception):
        raise Finding(f"{what}: refused: {other}") from other
    for a, b in zip(_arrays(one), _arrays(other), strict=True):
        nan = a != a
        if a.shape != b.shape or a.dtype != b.dtype or not np.array_equal(nan, b != b):
            raise Finding(f"{what}: another result: {a.dtype} {a.shape} and {b.dtype} {b.shape}")
        if np.ascontiguousarray(a)[~nan].tobytes() != np.ascontiguousarray(b)[~nan].tobytes():
            raise Finding(f"{what}: other bits")
