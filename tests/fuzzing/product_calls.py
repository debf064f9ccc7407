"""Valid random arguments for products and packed weights, and the right results."""

from __future__ import annotations

import operator
import pickle
from typing import Any

import numpy as np
import oracle
import tolerance

import attnlib as al

from .calls import Call, Draw, eps_of

__all__ = ["PRODUCTS"]

Arguments = dict[str, Any]
_ACTIVATIONS = (None, "relu", "gelu", "gelu_tanh", "silu", "tanh")


def matmul(draw: Draw) -> Call:
    """Batches that broadcast, vectors."""
    rows, inner, columns = draw.size(), draw.size(), draw.size()
    batch = draw.batch()
    left = draw.array(*draw.broadcast(*batch), rows, inner) if draw.chance(0.8) else draw.array(inner)
    right = draw.array(*batch, inner, columns) if draw.chance(0.8) else draw.array(inner)

    def exact(a: Arguments) -> Any:
        bound = tolerance.matmul_bound(a["a"], a["b"], eps_of(a["a"], a["b"])) if a["a"].shape[-1] else 0.0
        return [(oracle.matmul(a["a"], a["b"]), bound)]

    takes_out = left.ndim > 1 or right.ndim > 1
    return Call(
        "matmul", lambda a, b, **out: al.matmul(a, b, **out), {"a": left, "b": right}, exact, takes_out
    )


def linear(draw: Draw) -> Call:
    """Plain weights."""
    rows, inner, columns = draw.size(), draw.size(), draw.size()
    batch = draw.batch(1)
    arguments = {
        "x": draw.array(*batch, rows, inner) if draw.chance(0.9) else draw.array(inner),
        "weight": draw.array(columns, inner, scale=max(inner, 1) ** -0.5),
        "bias": draw.array(columns) if draw.chance(0.5) else None,
        "activation": draw.pick(_ACTIVATIONS),
        "residual": None,
    }
    if draw.chance(0.4):
        arguments["residual"] = draw.array(*arguments["x"].shape[:-1], columns)

    def exact(a: Arguments) -> Any:
        parts = a["x"], a["weight"], a["bias"]
        eps = eps_of(*(x for x in (*parts, a["residual"]) if x is not None))
        bound = tolerance.linear_bound(*parts, a["residual"], eps) if a["x"].shape[-1] else 1e-5
        return [(oracle.linear(*parts, a["activation"], a["residual"]), bound)]

    return Call("linear", al.linear, arguments, exact, takes_out=True)


def packed_linear(draw: Draw) -> Call:
    """Every format; the product is that of a pickled copy, and of its rows apart."""
    inner, columns = draw.size(), draw.size()
    arguments = {
        "x": draw.array(*draw.batch(1), draw.size(), inner),
        "weight": draw.array(columns, inner),
        "dtype": draw.pick((None, "float32", "float64", "float16", "bfloat16", "int8", "int4")),
        "group_size": None,
        "bias": draw.array(columns) if draw.chance(0.3) else None,
        "activation": draw.pick(_ACTIVATIONS),
    }
    if arguments["dtype"] == "int4":
        arguments["group_size"] = draw.pick((None, 32, 64, 128))
    # A product in float64 takes no weight of fewer bits.
    float64 = any(getattr(a, "dtype", None) == np.float64 for a in (arguments["x"], arguments["bias"]))

    def function(x: Any, weight: Any, dtype: Any, group_size: Any, **options: Any) -> Any:
        packed = al.pack_weight(weight, dtype=dtype, group_size=group_size)
        unpacked = packed.unpack()
        again = pickle.loads(pickle.dumps(packed))
        if again.unpack().tobytes() != unpacked.tobytes():
            raise AssertionError("pickling changes a weight")
        result = al.linear(x, packed, **options)
        if al.linear(x, again, **options).tobytes() != result.tobytes():
            raise AssertionError("pickling changes a product")
        return result, unpacked

    call = Call(("linear", "pack_weight"), function, arguments)
    call.valid = not float64 and not draw.mixed
    return call


def packed_rows(draw: Draw) -> Call:
    """Parts of a packed weight."""
    columns = draw.size()
    start = int(draw.rng.integers(columns + 1))
    arguments = {
        "weight": draw.array(columns, draw.size()),
        "dtype": draw.pick((None, "bfloat16", "int8", "int4")),
        "start": start,
        "stop": int(draw.rng.integers(start, columns + 1)),
    }

    def function(weight: Any, dtype: Any, start: Any, stop: Any) -> Any:
        packed = al.pack_weight(weight, dtype=dtype)
        part = packed.rows(start, stop).unpack()
        start, stop = operator.index(start), operator.index(stop)
        if part.tobytes() != packed.unpack()[start:stop].tobytes():
            raise AssertionError("rows are others than those of the weight")
        return part

    call = Call(("pack_weight", "PackedWeight", "rows"), function, arguments)
    call.valid = False  # panels can be cut at some rows only
    return call


def restored_weight(draw: Draw) -> Call:
    """A pickled state of which one item is another."""
    packed = al.pack_weight(draw.array(draw.size(40), draw.size(70)), dtype=draw.pick((None, "int8", "int4")))
    arguments = {f"item{i}": item for i, item in enumerate(packed.__getstate__())}

    def function(**state: Any) -> Any:
        if any(isinstance(item, np.ma.MaskedArray) for item in state.values()):
            raise ValueError("PackedWeight: nothing pickles so")
        restored = al.PackedWeight.__new__(al.PackedWeight)
        restored.__setstate__(tuple(state.values()))
        return restored.unpack()

    return Call(("PackedWeight", "pack_weight", "__setstate__"), function, arguments)


PRODUCTS = (matmul, linear, packed_linear, packed_rows, restored_weight)
