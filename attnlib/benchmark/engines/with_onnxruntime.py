"""ONNX Runtime on models of a few nodes, built in memory.

Weights are constants of the model, so that it packs them when the session is made. Each model is run in two
ways, with arrays in and out and with inputs and outputs bound beforehand; where several operators do the
same, each is tried. Its CPU kernels know no bfloat16. int8 is what its dynamic quantisation makes of a
product (per tensor and per channel), int8 and int4 also its MatMulNBits on int8 activations.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from onnx import ModelProto, NodeProto, TensorProto, load_model

from attnlib.benchmark.engines.engine import Array, Call, Engine
from attnlib.benchmark.engines.onnx_models import (
    CONTRIB,
    Arrays,
    bert,
    encoder_layer,
    make_model,
    make_node,
    quantised_weight,
)

__all__ = ["ENGINE"]

Operator = tuple[str, dict[str, Any]]

# The operators that do the same, by operation.
_SIMPLE: dict[str, tuple[Operator, ...]] = {
    "softmax": (("Softmax", {"axis": -1}),),
    "log_softmax": (("LogSoftmax", {"axis": -1}),),
    "layer_norm": (("LayerNormalization", {"axis": -1, "epsilon": 1e-5}),),
    "rms_norm": (
        ("RMSNormalization", {"axis": -1, "epsilon": 1e-5}),
        ("SimplifiedLayerNormalization", {"axis": -1, "epsilon": 1e-5}),
    ),
    "relu": (("Relu", {}),),
    "gelu": (("Gelu", {}), (f"{CONTRIB}.Gelu", {})),
    "gelu_tanh": (("Gelu", {"approximate": "tanh"}), (f"{CONTRIB}.FastGelu", {})),
    "silu": ((f"{CONTRIB}.QuickGelu", {"alpha": 1.0}),),
    "tanh": (("Tanh", {}),),
    "sigmoid": (("Sigmoid", {}),),
    "matmul": (("MatMul", {}),),
}


# Of a weight that MatMulNBits gives a scale each; and its level of accuracy that quantises activations to
# int8.
_BLOCK = 128
_INT8_ACTIVATIONS = 4
_ATTENTIONS = {True: "Attention", False: "MultiHeadAttention"}


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU execution provider."""

    name: ClassVar[str] = "ONNX Runtime"

    @property
    def version(self) -> str:
        return str(ort.__version__)

    def calls(self, operation: str, precision: str, inputs: tuple[Any, ...]) -> list[Call]:
        if operation not in _SIMPLE:
            return super().calls(operation, precision, inputs)
        if precision != "float32":
            return []
        x, *others = inputs
        # What a norm's weights are to a model, the second operand of a product is not.
        weights = {f"weight{i}": array for i, array in enumerate(others) if operation != "matmul"}
        feeds = {"x": x} if operation != "matmul" else {"x": x, "y": others[0]}
        names = " ".join([*feeds, *weights])
        return [
            call
            for operator, attributes in _SIMPLE[operation]
            for call in self._ways(operator, [make_node(operator, names, **attributes)], feeds, weights)
        ]

    def swiglu(self, precision: str, gate: Array, up: Array) -> list[Call]:
        if precision != "float32":
            return []
        nodes = [make_node(f"{CONTRIB}.QuickGelu", "gate", "silu", alpha=1.0), make_node("Mul", "silu up")]
        return self._ways("QuickGelu, Mul", nodes, {"gate": gate, "up": up})

    def rotary_embedding(self, precision: str, x: Array, cos: Array, sin: Array) -> list[Call]:
        if precision != "float32":
            return []
        batch, _, tokens, _ = x.shape
        positions = np.tile(np.arange(tokens), (batch, 1))
        constants = {"cos": cos, "sin": sin, "positions": positions}
        standard = make_node("RotaryEmbedding", "x cos sin positions")
        contributed = make_node(f"{CONTRIB}.RotaryEmbedding", "x positions cos sin")
        return [
            *self._ways("RotaryEmbedding", [standard], {"x": x}, constants),
            *self._ways(f"{CONTRIB}.RotaryEmbedding", [contributed], {"x": x}, constants),
        ]

    def linear(
        self, precision: str, x: Array, weight: Array, bias: Array, activation: str | None
    ) -> list[Call]:
        out = "product" if activation else "out"
        last: list[NodeProto] = []
        if activation:
            operator, attributes = _SIMPLE[activation][0]
            last = [make_node(operator, out, **attributes)]
        transposed = np.ascontiguousarray(weight.T)
        if precision == "float32":
            gemm = [make_node("Gemm", "x weight bias", out, transB=1), *last]
            matmul = [make_node("MatMul", "x weight", "xw"), make_node("Add", "xw bias", out), *last]
            return [
                *self._ways("Gemm", gemm, {"x": x}, {"weight": weight, "bias": bias}),
                *self._ways("MatMul, Add", matmul, {"x": x}, {"weight": transposed, "bias": bias}),
            ]
        if precision == "bfloat16":
            return []
        calls = []
        if precision == "int8":
            quantised = [
                make_node(f"{CONTRIB}.DynamicQuantizeMatMul", "x weight scale zero bias", out),
                *last,
            ]
            for name, axis in (("per tensor", None), ("per channel", 0)):
                scale = np.abs(transposed).max(axis=axis) / np.float32(127)
                constants = {
                    "weight": np.rint(transposed / scale).astype(np.int8),
                    "scale": np.asarray(scale, np.float32),
                    "zero": np.zeros_like(scale, np.int8),
                    "bias": bias,
                }
                calls += self._ways(f"DynamicQuantizeMatMul, {name}", quantised, {"x": x}, constants)
        bits = {"int8": 8, "int4": 4}[precision]
        few = make_node(
            f"{CONTRIB}.MatMulNBits",
            ["x", "weight", "scales", "", "", "bias"],
            out,
            K=weight.shape[1],
            N=weight.shape[0],
            bits=bits,
            block_size=_BLOCK,
            accuracy_level=_INT8_ACTIVATIONS,
        )
        constants = {**quantised_weight(weight, bits, _BLOCK), "bias": bias}
        return [*calls, *self._ways(f"MatMulNBits, {bits} bits", [few, *last], {"x": x}, constants)]

    def attention(self, precision: str, query: Array, key: Array, value: Array, causal: bool) -> list[Call]:
        """Operators that take (B, H, S, D), and (B, S, H·D): converted outside of the timing."""
        if precision != "float32":
            return []
        heads, tokens = query.shape[1], query.shape[2]
        groups, keys = key.shape[1], key.shape[2]
        feeds = {"query": query, "key": key, "value": value}
        packed = {name: _join_heads(array) for name, array in feeds.items()}
        back = partial(_split_heads, heads=heads)
        sizes = {"q_num_heads": heads, "kv_num_heads": groups}
        names = "query key value"
        plain = make_node("Attention", names, is_causal=int(causal))
        joined = make_node("Attention", names, is_causal=int(causal), **sizes)
        calls = [
            *self._ways("Attention (B,H,S,D)", [plain], feeds),
            *self._ways("Attention (B,S,H·D)", [joined], packed, array=back),
        ]
        if groups == heads:
            multi = make_node(
                f"{CONTRIB}.MultiHeadAttention", names, num_heads=heads, unidirectional=int(causal)
            )
            calls += self._ways("MultiHeadAttention", [multi], packed, array=back)
        if causal:
            # The operator whose CPU kernel skips what causality removes; made for caches, hence the lengths.
            lengths = _lengths(query.shape[0], keys)
            node = make_node(
                f"{CONTRIB}.GroupQueryAttention",
                [*packed, "", "", *lengths],
                num_heads=heads,
                kv_num_heads=groups,
            )
            calls += self._ways("GroupQueryAttention", [node], packed, lengths, array=back)
        elif tokens == 1:
            calls += self._decoding(feeds, packed, heads, back)
        return calls

    def _decoding(
        self, feeds: Arrays, packed: Arrays, heads: int, back: Callable[[Array], Array]
    ) -> list[Call]:
        """One query: against a cache, into which the operator puts the last key; and heads as queries."""
        batch, groups, _, size = feeds["key"].shape
        grouped = {**feeds, "query": feeds["query"].reshape(batch, groups, heads // groups, size)}
        shape = feeds["query"].shape
        alone = make_node("Attention", "query key value")
        products = [
            make_node("Mul", "query scale", "scaled"),
            make_node("MatMul", "scaled turned", "scores"),
            make_node("Softmax", "scores", "weights", axis=-1),
            make_node("MatMul", "weights value"),
        ]
        turned = {
            "query": grouped["query"],
            "turned": np.ascontiguousarray(feeds["key"].swapaxes(-1, -2)),
            "value": feeds["value"],
        }
        scale = {"scale": np.array(size**-0.5, np.float32)}
        return [
            self._cached(feeds, packed, heads, back),
            *self._ways("Attention of heads as queries", [alone], grouped, array=lambda a: a.reshape(shape)),
            *self._ways(
                "two products of transposed keys", products, turned, scale, array=lambda a: a.reshape(shape)
            ),
        ]

    def _cached(self, feeds: Arrays, packed: Arrays, heads: int, back: Callable[[Array], Array]) -> Call:
        """GroupQueryAttention as in generation: the cache before and after the step is the same memory."""
        batch, groups, keys, _ = feeds["key"].shape
        step = {name: packed[name][:, -1:].copy() for name in ("query", "key", "value")}
        caches = {"past_key": feeds["key"].copy(), "past_value": feeds["value"].copy()}
        lengths = _lengths(batch, keys)
        node = make_node(
            f"{CONTRIB}.GroupQueryAttention",
            [*step, *caches, *lengths],
            ["out", "present_key", "present_value"],
            num_heads=heads,
            kv_num_heads=groups,
        )
        session = self._session(make_model([node], {**step, **caches}, lengths))
        binding = session.io_binding()
        for name, array in step.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array))
        for name, array in caches.items():
            cache = ort.OrtValue.ortvalue_from_numpy(array)
            binding.bind_ortvalue_input(name, cache)
            binding.bind_ortvalue_output(name.replace("past", "present"), cache)
        result = ort.OrtValue.ortvalue_from_numpy(np.empty_like(step["query"]))
        binding.bind_ortvalue_output("out", result)
        return Call(
            "GroupQueryAttention of a cache",
            lambda: session.run_with_iobinding(binding),
            lambda _: back(result.numpy().copy()),
        )

    def attention_varlen(
        self, precision: str, query: Array, key: Array, value: Array, cu_seqlens: Array
    ) -> list[Call]:
        """Padded, with the number of valid keys of each sequence."""
        if precision != "float32":
            return []
        lengths = np.diff(cu_seqlens)
        valid = np.arange(lengths.max()) < lengths[:, None]
        feeds = {}
        for name, array in (("query", query), ("key", key), ("value", value)):
            feeds[name] = np.zeros((*valid.shape, array.shape[1] * array.shape[2]), array.dtype)
            feeds[name][valid] = array.reshape(len(array), -1)
        node = make_node(f"{CONTRIB}.MultiHeadAttention", [*feeds, "", "lengths"], num_heads=query.shape[1])

        def unpadded(result: Array) -> Array:
            return result[valid].reshape(query.shape)

        return self._ways(
            "MultiHeadAttention, padded", [node], feeds, {"lengths": lengths.astype(np.int32)}, array=unpadded
        )

    def encoder_layer(self, precision: str, x: Array, state: Arrays, heads: int) -> list[Call]:
        if precision != "float32":
            return []
        return [
            call
            for fused in (True, False)
            for call in self._ways(
                f"{_ATTENTIONS[fused]} and fused norms", *_fed(encoder_layer(state, heads, fused=fused), x=x)
            )
        ]

    def model(self, precision: str, folder: Path, ids: Array) -> list[Call]:
        """The fused operators that its optimiser makes of BERT; quantised by `quantize_dynamic`."""
        if precision not in ("float32", "int8"):
            return []
        calls = []
        for fused in (True, False):
            nodes, feeds, constants = _fed(bert(folder, ids.shape[1], fused=fused), ids=ids)
            model = make_model(nodes, feeds, constants)
            name = f"{_ATTENTIONS[fused]} and fused norms"
            if precision == "float32":
                calls += self._run_ways(name, model, feeds, _vectors)
            else:
                for per_channel in (True, False):
                    way = f"{name}, quantised per {'channel' if per_channel else 'tensor'}"
                    calls += self._run_ways(way, _quantised(model, per_channel), feeds, _vectors)
        return calls

    def _ways(
        self,
        name: str,
        nodes: Sequence[NodeProto],
        feeds: Arrays,
        constants: Arrays | None = None,
        array: Callable[[Array], Array] = np.asarray,
    ) -> list[Call]:
        return self._run_ways(name, make_model(nodes, feeds, constants or {}), feeds, array)

    def _run_ways(
        self, name: str, model: ModelProto, feeds: Arrays, array: Callable[[Array], Array]
    ) -> list[Call]:
        session = self._session(model)
        (first,) = session.run(None, feeds)
        binding = session.io_binding()
        for feed, value in feeds.items():
            binding.bind_ortvalue_input(feed, ort.OrtValue.ortvalue_from_numpy(value))
        result = ort.OrtValue.ortvalue_from_numpy(np.empty_like(first))
        binding.bind_ortvalue_output("out", result)
        return [
            Call(f"{name}, run", lambda: session.run(None, feeds), lambda results: array(results[0])),
            Call(
                f"{name}, bound",
                lambda: session.run_with_iobinding(binding),
                lambda _: array(result.numpy().copy()),
            ),
        ]

    def _session(self, model: ModelProto) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _lengths(batch: int, keys: int) -> Arrays:
    """Say what GroupQueryAttention wants to know of its cache: the last position, how many there are."""
    return {"last": np.full(batch, keys - 1, np.int32), "total": np.array([keys], np.int32)}


def _fed(made: tuple[list[NodeProto], Arrays], **feeds: Array) -> tuple[list[NodeProto], Arrays, Arrays]:
    """Put what is fed between nodes and constants."""
    nodes, constants = made
    return nodes, feeds, constants


def _quantised(model: ModelProto, per_channel: bool) -> ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # it advises on the root logger
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "quantised.onnx"
        quantize_dynamic(
            model,
            path,
            per_channel=per_channel,
            weight_type=QuantType.QInt8,
            # Shapes end at the operators of its own; all of them give this.
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        return load_model(path)


def _vectors(hidden: Array) -> Array:
    means = hidden.mean(axis=1)
    result: Array = means / np.linalg.norm(means, axis=-1, keepdims=True)
    return result


def _join_heads(array: Array) -> Array:
    batch, heads, tokens, size = array.shape
    return np.ascontiguousarray(array.swapaxes(1, 2)).reshape(batch, tokens, heads * size)


def _split_heads(array: Array, heads: int) -> Array:
    batch, tokens, _ = array.shape
    result: Array = array.reshape(batch, tokens, heads, -1).swapaxes(1, 2)
    return result


ENGINE = OnnxRuntime
