"""Valid random arguments for each operation, and the right results."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import tolerance
from arrays import accumulator

import attnlib as al
from attnlib import compat, functional, nn

from .attention_calls import ATTENTION
from .audio_calls import AUDIO
from .calls import Call, Draw, eps_of
from .fused_calls import FUSED
from .product_calls import PRODUCTS
from .viz_calls import VIZ

__all__ = ["OPERATIONS"]

Arguments = dict[str, Any]


def softmax(draw: Draw) -> Call:
    """Any axis, with a mask or without."""
    shape = (*draw.batch(), draw.size(), draw.size()) if draw.chance(0.97) else (draw.size(9), 9000)
    x = draw.array(*shape, scale=3.0)
    arguments = {"x": x, "axis": int(draw.rng.integers(-x.ndim, x.ndim)), "mask": None}
    if draw.chance(0.4):
        arguments["mask"] = draw.rng.random(draw.broadcast(*x.shape)) < 0.7

    def exact(a: Arguments) -> Any:
        right = oracle.softmax(a["x"], a["axis"], a["mask"])
        values = oracle.float64(a["x"])
        masked = values if a["mask"] is None else np.where(a["mask"], values, -np.inf)
        return [(right, tolerance.softmax_bound(masked, right, a["axis"], eps_of(a["x"])))]

    return Call("softmax", al.softmax, arguments, exact, takes_out=True)


def log_softmax(draw: Draw) -> Call:
    """Any axis."""
    x = draw.array(*draw.batch(), draw.size(), draw.size(), scale=3.0)
    arguments = {"x": x, "axis": int(draw.rng.integers(-x.ndim, x.ndim))}

    def exact(a: Arguments) -> Any:
        right = oracle.log_softmax(a["x"], a["axis"])
        return [(right, tolerance.log_softmax_bound(a["x"], right, a["axis"], eps_of(a["x"])))]

    return Call("log_softmax", al.log_softmax, arguments, exact, takes_out=True)


def norm(draw: Draw) -> Call:
    """Both norms."""
    features = draw.size()
    root = draw.chance(0.5)
    shape = (*draw.batch(), draw.size(), features) if draw.chance(0.9) else (features,)
    arguments = {
        "x": draw.array(*shape),
        "weight": draw.array(features) if draw.chance(0.7) else None,
        "bias": draw.array(features) if draw.chance(0.7) else None,
        "eps": draw.pick((1e-5, 1e-12, 0.1)),
        "residual": draw.array(*shape) if draw.chance(0.4) else None,
    }
    if root:
        del arguments["bias"]

    def exact(a: Arguments) -> Any:
        given = [x for x in (a["x"], a["weight"], a.get("bias"), a["residual"]) if x is not None]
        eps = eps_of(*given)
        total = oracle.float64(a["x"]) + (0 if a["residual"] is None else oracle.float64(a["residual"]))
        if root:
            right = oracle.rms_norm(a["x"], a["weight"], a["eps"], residual=a["residual"])
            # The sum with the residual is rounded once, and a root of nearly nothing keeps that.
            bound = tolerance.rms_norm_bound(total, right, eps)
            if a["residual"] is not None:
                bound = bound + _cancelled(a, total, right, eps)
            return [(right, bound)]
        right = oracle.layer_norm(a["x"], a["weight"], a["bias"], a["eps"], residual=a["residual"])
        bound = tolerance.layer_norm_bound(total, a["weight"], a["bias"], a["eps"], right, eps)
        if a["residual"] is not None:
            bound = bound + _cancelled(a, total, right, eps)
        return [(right, bound)]

    return Call(
        "rms_norm" if root else "layer_norm", al.rms_norm if root else al.layer_norm, arguments, exact, True
    )


def _cancelled(a: Arguments, total: Any, right: Any, eps: float) -> Any:
    """Bound what the rounding of x + residual comes to, where the two nearly cancel."""
    if not total.shape[-1]:
        return 0.0
    size = np.max(
        np.abs(oracle.float64(a["x"])) + np.abs(oracle.float64(a["residual"])), axis=-1, keepdims=True
    )
    deviation = np.sqrt(np.var(total, axis=-1, keepdims=True) + a["eps"])
    weight = 1.0 if a["weight"] is None else np.abs(oracle.float64(a["weight"]))
    return 8 * eps * size / deviation * (weight + np.abs(right))


def elementwise(draw: Draw) -> Call:
    """Activations."""
    name = draw.pick(("relu", "gelu", "gelu_tanh", "silu", "tanh", "sigmoid"))
    x = draw.array(*draw.batch(), draw.size(), draw.size(), scale=draw.pick((1.0, 4.0)))
    arguments: Arguments = {"x": x}
    if name.startswith("gelu"):
        arguments["approximate"] = "tanh" if name == "gelu_tanh" else "none"

    def exact(a: Arguments) -> Any:
        right = oracle.gelu(**a) if name.startswith("gelu") else getattr(oracle, name)(a["x"])
        return [(right, tolerance.activation_bound(name, a["x"], right, eps_of(a["x"])))]

    plain = name.partition("_")[0]
    return Call(plain, getattr(al, plain), arguments, exact, takes_out=True)


def swiglu(draw: Draw) -> Call:
    """Its two inputs."""
    shape = (*draw.batch(), draw.size(), draw.size())
    arguments = {"gate": draw.array(*shape, scale=2.0), "up": draw.array(*shape)}

    def exact(a: Arguments) -> Any:
        right, eps = oracle.swiglu(a["gate"], a["up"]), eps_of(a["gate"], a["up"])
        gate = np.abs(oracle.float64(a["gate"]))
        return [(right, (10 + 2 * gate) * eps * np.abs(right) + tolerance.floor(np.float32))]

    return Call("swiglu", al.swiglu, arguments, exact, takes_out=True)


def rotary_embedding(draw: Draw) -> Call:
    """Tables, positions, rows that are picked already."""
    features, steps = draw.size(), draw.size(40)
    half = int(draw.rng.integers(features // 2 + 1))
    batch = int(draw.rng.integers(1, 4))
    x = draw.array(batch, int(draw.rng.integers(1, 4)), steps, features)
    longest = steps + int(draw.rng.integers(4))
    cos, sin = (np.asarray(t)[:, :half] for t in oracle.rotary_tables(longest, max(features, 1)))
    positions = None
    if draw.chance(0.3):
        cos, sin = (np.stack([t[:steps]] * batch) for t in (cos, sin))
    elif draw.chance(0.6) and longest:
        shape = (batch, steps) if draw.chance(0.5) else (steps,)
        positions = draw.rng.integers(0, longest, shape)
    dtype = x.dtype if not draw.mixed else np.float32
    arguments = {
        "x": x,
        "cos": cos.astype(dtype),
        "sin": sin.astype(dtype),
        "positions": positions,
        "interleaved": draw.chance(0.5),
    }

    def exact(a: Arguments) -> Any:
        cos, sin = a["cos"], a["sin"]
        if a["positions"] is not None and a["positions"].ndim == 2:
            cos, sin = cos[a["positions"]], sin[a["positions"]]
            right = oracle.rotary_embedding(a["x"], cos, sin, None, a["interleaved"])
        else:
            right = oracle.rotary_embedding(a["x"], cos, sin, a["positions"], a["interleaved"])
        return [(right, tolerance.rotary_bound(a["x"], cos, sin, eps_of(a["x"], cos)))]

    return Call("rotary_embedding", al.rotary_embedding, arguments, exact, takes_out=True)


def sinusoidal_encoding(draw: Draw) -> Call:
    """Its sizes."""
    arguments = {
        "length": draw.size(),
        "dim": draw.size(),
        "base": draw.pick((10000.0, 2.0, 1e6)),
        "dtype": draw.pick(("float32", "float64", "float16", "bfloat16")),
    }

    def function(length: Any, dim: Any, **options: Any) -> Any:
        # A table of that size would be right.
        if (
            all(isinstance(n, (int, np.integer)) for n in (length, dim))
            and max(length, dim, int(length) * int(dim)) > 1 << 20
        ):
            raise ValueError("sinusoidal_encoding: too large for this test")
        return al.sinusoidal_encoding(length, dim, **options)

    def exact(a: Arguments) -> Any:
        return [
            (oracle.sinusoidal_encoding(a["length"], a["dim"], a["base"]), 1e-12 * (1 + a["length"]) + 6e-8)
        ]

    return Call("sinusoidal_encoding", function, arguments, exact)


def lstm_steps(draw: Draw) -> Call:
    """All steps of a recurrence."""
    batch, steps, units = int(draw.rng.integers(0, 4)), draw.size(9), draw.size(33)
    dtype = np.dtype(draw.pick((np.float32, np.float64)))
    out_features = draw.size(9) if draw.chance(0.3) else None
    state = units if out_features is None else out_features
    arguments: Arguments = {
        "projected": draw.array(batch, steps, 4 * units, dtype=dtype),
        "weight": draw.array(4 * units, state, dtype=dtype, scale=0.3),
        "hidden": draw.array(batch, state, dtype=dtype),
        "cell": draw.array(batch, units, dtype=dtype),
        "output_weight": None if out_features is None else draw.array(state, units, dtype=dtype, scale=0.3),
        "backwards": draw.chance(0.5),
    }

    def function(weight: Any, output_weight: Any, **options: Any) -> Any:
        packed = None if output_weight is None else al.pack_weight(output_weight)
        return functional.lstm_steps(weight=al.pack_weight(weight), output_weight=packed, **options)

    def exact(a: Arguments) -> Any:
        out, cell = oracle.lstm_steps(
            a["projected"], a["weight"], a["hidden"], a["cell"], a["output_weight"], a["backwards"]
        )
        # Errors of a step go through gates of slope at most 1 into the next.
        bound = 1e3 * np.finfo(accumulator(a["projected"].dtype)).eps * (1 + a["projected"].shape[1])
        return [(out, bound), (cell, bound * (1 + np.abs(cell).max(initial=0.0)))]

    return Call(("lstm_steps", "pack_weight"), function, arguments, exact)


def shims(draw: Draw) -> Call:
    """Attention by the names of other libraries."""
    batch, heads, features = int(draw.rng.integers(1, 3)), int(draw.rng.integers(1, 4)), draw.size(33)
    queries, keys = draw.size(33), draw.size(65)
    query = draw.array(batch, heads, queries, features)
    key, value = (draw.array(batch, heads, keys, features) for _ in range(2))
    mask = draw.rng.random((queries, keys)) < 0.8 if draw.chance(0.5) else None
    scale = draw.pick((None, 0.3))
    match draw.pick(("torch", "jax", "onnx")):
        case "torch":
            name, function = "scaled_dot_product_attention", compat.torch_like.scaled_dot_product_attention
            arguments = {"query": query, "key": key, "value": value, "attn_mask": mask, "scale": scale}
            arguments |= {"is_causal": mask is None and draw.chance(0.5), "enable_gqa": draw.chance(0.3)}
        case "jax":
            name, function = "dot_product_attention", compat.jax_like.dot_product_attention
            arrays = (np.swapaxes(x, 1, 2) for x in (query, key, value))
            arguments = dict(zip(("query", "key", "value"), arrays, strict=True))
            arguments |= {"mask": None if mask is None else mask[None, None], "scale": scale}
            arguments |= {"is_causal": draw.chance(0.5), "local_window_size": draw.pick((None, 3, (2, 1)))}
            if draw.chance(0.3):
                arguments["key_value_seq_lengths"] = draw.rng.integers(0, keys + 1, batch)
        case _:
            name, function = "Attention", compat.onnx_like.Attention
            arguments = {"Q": query, "K": key, "V": value, "attn_mask": mask, "scale": scale}
            arguments |= {"is_causal": int(draw.rng.integers(2)), "softcap": draw.pick((0.0, 5.0))}
            arguments |= {"qk_matmul_output_mode": int(draw.rng.integers(4))}
    # Python says itself what is wrong with a truth value.
    switches = ("qk_matmul_output_mode", "is_causal", "enable_gqa")
    call = Call((name, "attention"), function, arguments, switches=switches)
    call.valid = False  # empty axes and mixed dtypes are refused by some
    return call


def settings(draw: Draw) -> Call:
    """What is no operation on arrays: the number of threads, the slopes of ALiBi."""
    slopes = draw.chance(0.5)

    def function(n: Any) -> Any:
        if isinstance(n, (int, np.integer)) and n > 256:
            return np.zeros(0)  # so many are what is asked for
        if slopes:
            return nn.alibi_slopes(n)
        with al.num_threads(n):
            return np.array(al.get_num_threads())

    names = ("alibi_slopes", "set_num_threads", "num_threads")
    return Call(names, function, {"n": draw.size() if slopes else 1 + draw.size(3)})


OPERATIONS = (
    *PRODUCTS,
    softmax,
    log_softmax,
    norm,
    elementwise,
    swiglu,
    rotary_embedding,
    sinusoidal_encoding,
    lstm_steps,
    shims,
    settings,
    *ATTENTION,
    *ATTENTION,
    *FUSED,
    *AUDIO,
    *VIZ,
)
