"""OpenVINO's CPU plugin on models of a few nodes, built in memory.

bfloat16 is its inference precision, with arrays of float32 or of bfloat16 in and out. int8 and int4 are
compressed weights: integers with a scale for each channel (int4: for each group of 128 as well), which the
plugin multiplies as such where it can. Quantised activations would take NNCF and data to calibrate on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import ml_dtypes
import numpy as np
import openvino as ov
from openvino import opset15 as ops

from attnlib.benchmark.engines.engine import Array, Call, Engine

__all__ = ["ENGINE"]

Node = Any
Constant = Callable[[Array], Node]

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32", "int4": "f32"}
_GROUP = 128
_ACTIVATIONS: dict[str, Callable[[Node], Node]] = {
    "relu": ops.relu,
    "gelu": lambda x: ops.gelu(x, "erf"),
    "gelu_tanh": lambda x: ops.gelu(x, "tanh"),
    "silu": ops.swish,
    "tanh": ops.tanh,
    "sigmoid": ops.sigmoid,
}


class OpenVINO(Engine):
    """One stream on all threads, told to answer soon."""

    name: ClassVar[str] = "OpenVINO"

    def __init__(self, threads: int) -> None:
        super().__init__(threads)
        self._core = ov.Core()

    @property
    def version(self) -> str:
        return str(ov.__version__).split("-", 1)[0]

    def calls(self, operation: str, precision: str, inputs: tuple[Any, ...]) -> list[Call]:
        if operation in _ACTIVATIONS:
            return self._ways(operation, precision, lambda _, x: _ACTIVATIONS[operation](x), inputs)
        return super().calls(operation, precision, inputs)

    def softmax(self, precision: str, x: Array) -> list[Call]:
        return self._ways("Softmax", precision, lambda _, node: ops.softmax(node, -1), [x])

    def log_softmax(self, precision: str, x: Array) -> list[Call]:
        return self._ways("LogSoftmax", precision, lambda _, node: ops.log_softmax(node, -1), [x])

    def layer_norm(self, precision: str, x: Array, weight: Array, bias: Array) -> list[Call]:
        return self._ways("MVN", precision, lambda c, node: _layer_norm(c, node, weight, bias), [x])

    def matmul(self, precision: str, a: Array, b: Array) -> list[Call]:
        return self._ways("MatMul", precision, lambda _, x, y: ops.matmul(x, y, False, False), [a, b])

    def linear(
        self, precision: str, x: Array, weight: Array, bias: Array, activation: str | None
    ) -> list[Call]:
        def build(constant: Constant, node: Node) -> Node:
            kernel = _compressed(weight, precision) if precision in ("int8", "int4") else constant(weight)
            out = ops.add(ops.matmul(node, kernel, False, True), constant(bias))
            return _ACTIVATIONS[activation](out) if activation else out

        return self._ways("MatMul, Add", precision, build, [x])

    def attention(self, precision: str, query: Array, key: Array, value: Array, causal: bool) -> list[Call]:
        """The fused operator, with keys repeated in the model; for one query, also heads as queries."""
        batch, heads, tokens, size = query.shape
        groups, keys = key.shape[1:3]

        def repeated(node: Node) -> Node:
            if groups == heads:
                return node
            wide = ops.broadcast(
                ops.unsqueeze(node, _integers(2)), _integers(batch, groups, heads // groups, keys, size)
            )
            return ops.reshape(wide, _integers(batch, heads, keys, size), False)

        def fused(_: Constant, q: Node, k: Node, v: Node) -> Node:
            return ops.scaled_dot_product_attention(q, repeated(k), repeated(v), causal=causal)

        def products(constant: Constant, q: Node, k: Node, v: Node) -> Node:
            scaled = ops.multiply(q, constant(np.array(size**-0.5, np.float32)))
            return ops.matmul(ops.softmax(ops.matmul(scaled, k, False, True), -1), v, False, False)

        name = "ScaledDotProductAttention"
        calls = self._ways(name, precision, fused, [query, key, value])
        if tokens == 1 and groups != heads:

            def alone(_: Constant, q: Node, k: Node, v: Node) -> Node:
                return ops.scaled_dot_product_attention(q, k, v)

            arrays = [query.reshape(batch, groups, heads // groups, size), key, value]
            for way, build in ((f"{name} of heads as queries", alone), ("two products", products)):
                for call in self._ways(way, precision, build, arrays):
                    back = partial(_reshaped, call.array, query.shape)
                    calls.append(Call(call.way, call.run, back))
        return calls

    def encoder_layer(self, precision: str, x: Array, state: dict[str, Array], heads: int) -> list[Call]:
        def build(constant: Constant, node: Node) -> Node:
            return _encoder_layer(constant, node, state, heads, x.shape)

        return self._ways("encoder layer", precision, build, [x])

    def model(self, precision: str, folder: Path, ids: Array) -> list[Call]:
        """What it converts of transformers' model."""
        if precision not in ("float32", "bfloat16"):
            return []
        model = _bert(folder).clone()
        model.reshape(list(ids.shape))
        call = self._call("model converted from PyTorch", precision, model, [ov.Tensor(ids)])

        def vectors(result: Any) -> Array:
            means = call.array(result).mean(axis=1)
            scaled: Array = means / np.linalg.norm(means, axis=-1, keepdims=True)
            return scaled

        return [Call(call.way, call.run, vectors)]

    def _ways(self, name: str, precision: str, build: Callable[..., Node], arrays: Any) -> list[Call]:
        """A model with float32 in and out; where it computes in bfloat16, also one with that in and out."""
        kinds = [("", ov.Type.f32)]
        if precision == "bfloat16":
            kinds.append((", bfloat16 in and out", ov.Type.bf16))
        calls = []
        for suffix, kind in kinds:
            parameters = [ops.parameter(list(array.shape), kind) for array in arrays]
            out = build(partial(ops.constant, dtype=kind), *parameters)
            tensors = [_tensor(array, kind) for array in arrays]
            calls.append(self._call(name + suffix, precision, ov.Model([out], parameters), tensors))
        return calls

    def _call(self, way: str, precision: str, model: Any, tensors: list[Any]) -> Call:
        compiled = self._core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _HINTS[precision],
                "INFERENCE_NUM_THREADS": self.threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
            },
        )
        request = compiled.create_infer_request()
        for index, tensor in enumerate(tensors):
            request.set_input_tensor(index, tensor)
        return Call(way, request.infer, lambda _: _array(request.get_output_tensor(0)))


def _reshaped(array: Callable[[Any], Array], shape: tuple[int, ...], result: Any) -> Array:
    return array(result).reshape(shape)


def _integers(*values: int) -> Node:
    return ops.constant(np.array(values, np.int64))


def _tensor(array: Array, kind: Any) -> Any:
    if kind == ov.Type.bf16:
        tensor = ov.Tensor(kind, ov.Shape(list(array.shape)))
        tensor.data[...] = _bits(array).view(tensor.data.dtype)
        return tensor
    return ov.Tensor(np.ascontiguousarray(array), shared_memory=True)


def _bits(array: Array) -> Array:
    return np.ascontiguousarray(array).astype(ml_dtypes.bfloat16).view(np.uint16)


def _array(tensor: Any) -> Array:
    if tensor.element_type == ov.Type.bf16:
        bits = np.array(tensor.data).reshape(-1).view(np.uint16)
        result: Array = bits.view(ml_dtypes.bfloat16).astype(np.float32).reshape(tuple(tensor.shape))
        return result
    return np.array(tensor.data, np.float32)


def _compressed(weight: Array, precision: str) -> Node:
    """A weight as integers and scales, in the pattern that the plugin knows."""
    if precision == "int8":
        scales = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
        whole = ops.constant(np.rint(weight / scales).astype(np.int8))
        return ops.multiply(ops.convert(whole, "f32"), ops.constant(scales))
    channels, features = weight.shape
    groups = weight.reshape(channels, -1, _GROUP)
    scales = np.abs(groups).max(axis=-1, keepdims=True) / np.float32(7)
    whole = ops.constant(np.rint(groups / scales).astype(np.int8), dtype=ov.Type.i4)
    product = ops.multiply(ops.convert(whole, "f32"), ops.constant(scales.astype(np.float32)))
    return ops.reshape(product, _integers(channels, features), False)


def _layer_norm(constant: Constant, node: Node, weight: Array, bias: Array) -> Node:
    normal = ops.mvn(node, _integers(-1), True, 1e-5, "inside_sqrt")
    return ops.add(ops.multiply(normal, constant(weight)), constant(bias))


def _encoder_layer(
    constant: Constant, x: Node, state: dict[str, Array], heads: int, shape: tuple[int, ...]
) -> Node:
    batch, tokens, size = shape

    def linear(node: Node, weight: Array, bias: Array) -> Node:
        return ops.add(ops.matmul(node, constant(weight), False, True), constant(bias))

    weights = np.split(state["self_attn.in_proj_weight"], 3)
    biases = np.split(state["self_attn.in_proj_bias"], 3)
    query, key, value = (
        ops.transpose(
            ops.reshape(linear(x, weight, bias), _integers(batch, tokens, heads, size // heads), False),
            _integers(0, 2, 1, 3),
        )
        for weight, bias in zip(weights, biases, strict=True)
    )
    context = ops.transpose(ops.scaled_dot_product_attention(query, key, value), _integers(0, 2, 1, 3))
    joined = ops.reshape(context, _integers(batch, tokens, size), False)
    attended = linear(joined, state["self_attn.out_proj.weight"], state["self_attn.out_proj.bias"])
    hidden = _layer_norm(constant, ops.add(x, attended), state["norm1.weight"], state["norm1.bias"])
    inner = ops.gelu(linear(hidden, state["linear1.weight"], state["linear1.bias"]), "erf")
    network = linear(inner, state["linear2.weight"], state["linear2.bias"])
    return _layer_norm(constant, ops.add(hidden, network), state["norm2.weight"], state["norm2.bias"])


@cache
def _bert(folder: Path) -> Any:
    """Convert the model of transformers, for tokens that are all valid."""
    import torch
    import transformers

    # type: ignore: torch has no types where it is not installed, and so none for a subclass.
    class LastHidden(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.model = transformers.AutoModel.from_pretrained(folder).eval()

        def forward(self, input_ids: Any) -> Any:
            return self.model(input_ids=input_ids).last_hidden_state

    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tracing: that shapes are constants
        return ov.convert_model(LastHidden(), example_input=torch.ones((2, 16), dtype=torch.int64))


ENGINE = OpenVINO
