"""One table of all operations, for the tests that ask the same question of every one of them.

A case makes its inputs for a width, calls the operation and knows the exact answer with its error bound.
Layouts, dtypes, sizes, `out=`, threads and batches are then each one short file over this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import oracle
import tolerance
from arrays import accumulator, epsilon, normal
from numpy.typing import NDArray

import attnlib as al

Array = NDArray[Any]
Inputs = dict[str, Array]
Exact = tuple[Array, Array | float]


@dataclass(frozen=True)
class Case:
    """An operation with one set of options."""

    name: str
    make: Callable[[np.random.Generator, Any, int], Inputs]  # (rng, dtype, width) -> inputs
    call: Callable[..., Array]  # (inputs, **out) -> result
    exact: Callable[[Inputs, float], Exact]  # (inputs, eps) -> exact result and bound
    batched: frozenset[str] = frozenset({"x"})  # the inputs whose axis 0 is a batch
    large: int = 400  # a width at which the work is split between threads
    takes_out: bool = True

    def __str__(self) -> str:
        return self.name

    def check(self, result: Array, inputs: Inputs) -> None:
        """Assert that `result` is right for `inputs`."""
        dtype = np.asarray(result).dtype
        tolerance.assert_within(result, *self.exact(inputs, epsilon(accumulator(dtype))), what=self.name)


# --- products --------------------------------------------------------------------------------


def _make_matmul(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    return {"a": normal(rng, (3, n, n + 1), dtype), "b": normal(rng, (3, n + 1, n), dtype)}


def _make_linear(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    return {
        "x": normal(rng, (3, n, n + 1), dtype),
        "weight": normal(rng, (n, n + 1), dtype, (n + 1) ** -0.5),
        "bias": normal(rng, (n,), dtype),
        "residual": normal(rng, (3, n, n), dtype),
    }


def _linear(activation: str | None) -> Case:
    def exact(i: Inputs, eps: float) -> Exact:
        parts = i["x"], i["weight"], i["bias"]
        bound = tolerance.linear_bound(*parts, i["residual"], eps)
        return oracle.linear(*parts, activation, i["residual"]), bound

    def call(i: Inputs, **out: Any) -> Array:
        return al.linear(i["x"], i["weight"], i["bias"], activation=activation, residual=i["residual"], **out)

    name = "linear" if activation is None else f"linear_{activation}"
    return Case(name, _make_linear, call, exact, frozenset({"x", "residual"}))


def _packed_linear() -> Case:
    plain = _linear(None)

    def call(i: Inputs, **out: Any) -> Array:
        return al.linear(i["x"], al.pack_weight(i["weight"]), i["bias"], residual=i["residual"], **out)

    return Case("linear_packed", plain.make, call, plain.exact, plain.batched)


PRODUCTS = (
    Case(
        "matmul",
        _make_matmul,
        lambda i, **out: al.matmul(i["a"], i["b"], **out),
        lambda i, eps: (oracle.matmul(i["a"], i["b"]), tolerance.matmul_bound(i["a"], i["b"], eps)),
        frozenset({"a", "b"}),
    ),
    _linear(None),
    _linear("gelu"),
    _packed_linear(),
)


# --- rows --------------------------------------------------------------------------------


def _make_rows(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    return {"x": normal(rng, (3, 4, n), dtype, 3.0)}


def _make_masked_rows(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    return {"x": normal(rng, (3, 4, n), dtype, 3.0), "mask": rng.random((3, 4, n)) < 0.7}


def _make_norm(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    inputs = {name: normal(rng, (3, 4, n), dtype) for name in ("x", "residual")}
    return inputs | {name: normal(rng, (n,), dtype) for name in ("weight", "bias")}


def _make_rms_norm(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    inputs = _make_norm(rng, dtype, n)
    del inputs["bias"]
    return inputs


def _exact_softmax(i: Inputs, eps: float) -> Exact:
    exact = oracle.softmax(i["x"], mask=i.get("mask"))
    masked = i["x"] if "mask" not in i else np.where(i["mask"], oracle.float64(i["x"]), -np.inf)
    return exact, tolerance.softmax_bound(masked, exact, -1, eps)


def _exact_log_softmax(i: Inputs, eps: float) -> Exact:
    exact = oracle.log_softmax(i["x"])
    return exact, tolerance.log_softmax_bound(i["x"], exact, -1, eps)


def _exact_layer_norm(i: Inputs, eps: float) -> Exact:
    exact = oracle.layer_norm(i["x"], i["weight"], i["bias"], residual=i["residual"])
    total = oracle.float64(i["x"]) + oracle.float64(i["residual"])
    return exact, tolerance.layer_norm_bound(total, i["weight"], i["bias"], 1e-5, exact, eps)


def _exact_rms_norm(i: Inputs, eps: float) -> Exact:
    exact = oracle.rms_norm(i["x"], i["weight"], residual=i["residual"])
    return exact, tolerance.rms_norm_bound(i["x"], exact, eps)


ROWS = (
    Case("softmax", _make_rows, lambda i, **out: al.softmax(i["x"], **out), _exact_softmax, large=40000),
    Case(
        "softmax_masked",
        _make_masked_rows,
        lambda i, **out: al.softmax(i["x"], mask=i["mask"], **out),
        _exact_softmax,
        frozenset({"x", "mask"}),
        large=40000,
    ),
    Case(
        "log_softmax",
        _make_rows,
        lambda i, **out: al.log_softmax(i["x"], **out),
        _exact_log_softmax,
        large=40000,
    ),
    Case(
        "layer_norm",
        _make_norm,
        lambda i, **out: al.layer_norm(i["x"], i["weight"], i["bias"], residual=i["residual"], **out),
        _exact_layer_norm,
        frozenset({"x", "residual"}),
        large=40000,
    ),
    Case(
        "rms_norm",
        _make_rms_norm,
        lambda i, **out: al.rms_norm(i["x"], i["weight"], residual=i["residual"], **out),
        _exact_rms_norm,
        frozenset({"x", "residual"}),
        large=40000,
    ),
)


# --- elementwise --------------------------------------------------------------------------------


def _activation(name: str, call: Callable[..., Array], exact: Callable[[Array], Array]) -> Case:
    def exact_with_bound(i: Inputs, eps: float) -> Exact:
        result = exact(i["x"])
        return result, tolerance.activation_bound(name, i["x"], result, eps)

    return Case(name, _make_rows, lambda i, **out: call(i["x"], **out), exact_with_bound, large=40000)


def _make_swiglu(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    return {name: normal(rng, (3, 4, n), dtype, 2.0) for name in ("gate", "up")}


def _exact_swiglu(i: Inputs, eps: float) -> Exact:
    exact = oracle.swiglu(i["gate"], i["up"])
    gate = np.abs(oracle.float64(i["gate"]))
    return exact, (10 + 2 * gate) * eps * np.abs(exact) + tolerance.floor(i["gate"].dtype)


ELEMENTWISE = (
    _activation("relu", al.relu, oracle.relu),
    _activation("gelu", al.gelu, oracle.gelu),
    _activation("gelu_tanh", lambda x, **out: al.gelu(x, "tanh", **out), lambda x: oracle.gelu(x, "tanh")),
    _activation("silu", al.silu, oracle.silu),
    _activation("tanh", al.tanh, oracle.tanh),
    _activation("sigmoid", al.sigmoid, oracle.sigmoid),
    Case(
        "swiglu",
        _make_swiglu,
        lambda i, **out: al.swiglu(i["gate"], i["up"], **out),
        _exact_swiglu,
        frozenset({"gate", "up"}),
        large=40000,
    ),
)


# --- positions --------------------------------------------------------------------------------


def _make_rotary(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    cos, sin = oracle.rotary_tables(n, 10)
    return {"x": normal(rng, (3, 2, n, 13), dtype), "cos": cos.astype(dtype), "sin": sin.astype(dtype)}


def _rotary(interleaved: bool) -> Case:
    def exact(i: Inputs, eps: float) -> Exact:
        parts = i["x"], i["cos"], i["sin"]
        return oracle.rotary_embedding(*parts, interleaved=interleaved), tolerance.rotary_bound(*parts, eps)

    def call(i: Inputs, **out: Any) -> Array:
        return al.rotary_embedding(i["x"], i["cos"], i["sin"], interleaved=interleaved, **out)

    name = "rotary_interleaved" if interleaved else "rotary"
    return Case(name, _make_rotary, call, exact, large=10000)


# --- attention --------------------------------------------------------------------------------


def _make_attention(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    return {
        "query": normal(rng, (3, 4, n, 9), dtype),
        "key": normal(rng, (3, 2, n + 3, 9), dtype),
        "value": normal(rng, (3, 2, n + 3, 9), dtype),
    }


def _make_biased_attention(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    shape = (3, 4, n, n + 3)
    return _make_attention(rng, dtype, n) | {
        "bias": normal(rng, shape, dtype),
        "mask": rng.random(shape) < 0.8,
        "alibi_slopes": normal(rng, (4,), dtype, 0.05),
        "sinks": normal(rng, (4,), dtype),
    }


def _make_decode(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    inputs = _make_attention(rng, dtype, n)
    return inputs | {"query": inputs["query"][:, :, :1].copy()}


QKV = frozenset({"query", "key", "value"})


def _attention(
    name: str, make: Callable[..., Inputs], batched: frozenset[str], large: int, **options: Any
) -> Case:
    def split(i: Inputs) -> tuple[tuple[Array, Array, Array], dict[str, Array]]:
        rest = {name: array for name, array in i.items() if name not in QKV}
        return (i["query"], i["key"], i["value"]), rest

    def call(i: Inputs, **out: Any) -> Array:
        arrays, rest = split(i)
        return al.attention(*arrays, **rest, **options, **out)

    def exact(i: Inputs, _: float) -> Exact:
        arrays, rest = split(i)
        result = oracle.attention(*arrays, **rest, **options)
        return result.output, tolerance.attention_bounds(result, i["query"].shape[-1], i["query"].dtype)[0]

    return Case(name, make, call, exact, batched, large)


def _make_varlen(rng: np.random.Generator, dtype: Any, n: int) -> Inputs:
    offsets = np.array([0, n, n, n + n // 2 + 1], np.int32)
    arrays = {name: normal(rng, (offsets[-1], heads, 9), dtype) for name, heads in (("query", 4), ("key", 2))}
    return arrays | {"value": normal(rng, (offsets[-1], 2, 9), dtype), "cu_seqlens_q": offsets}


def _exact_varlen(i: Inputs, _: float) -> Exact:
    parts = oracle.attention_varlen(i["query"], i["key"], i["value"], i["cu_seqlens_q"], causal=True)
    bounds = [tolerance.attention_bounds(part, 9, i["query"].dtype)[0] for part in parts]
    outputs = [part.output for part in parts]
    return tuple(np.concatenate([np.swapaxes(x, 0, 1) for x in xs]) for xs in (outputs, bounds))  # type: ignore


ATTENTION = (
    _rotary(False),
    _rotary(True),
    _attention("attention", _make_attention, QKV, 200),
    _attention(
        "attention_options",
        _make_biased_attention,
        QKV | {"bias", "mask"},
        150,
        causal=True,
        window=(40, None),
        softcap=20.0,
        scale=0.2,
    ),
    _attention("attention_decode", _make_decode, QKV, 9000),
    Case(
        "attention_varlen",
        _make_varlen,
        lambda i, **out: al.attention_varlen(**i, causal=True, **out),
        _exact_varlen,
        frozenset(),
        large=300,
    ),
)

CASES = PRODUCTS + ROWS + ELEMENTWISE + ATTENTION
BATCHED = tuple(case for case in CASES if case.batched)
