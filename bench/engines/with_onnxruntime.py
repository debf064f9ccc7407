"""ONNX Runtime on models of a few nodes, built in memory.

Weights are constants of the model, so that it packs them when the session is made. Each model is run in two
ways, with arrays in and out and with inputs and outputs bound beforehand; where several operators do the
same, each is tried.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from engines.engine import Call, Engine

Array = NDArray[Any]
Arrays = dict[str, Array]
Operator = tuple[str, dict[str, Any]]

_CONTRIB = "com.microsoft"
_OPSETS = (("", 23), (_CONTRIB, 1))
_IR_VERSION = 10

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
    "gelu": (("Gelu", {}), (f"{_CONTRIB}.Gelu", {})),
    "gelu_tanh": (("Gelu", {"approximate": "tanh"}), (f"{_CONTRIB}.FastGelu", {})),
    "silu": ((f"{_CONTRIB}.QuickGelu", {"alpha": 1.0}),),
    "tanh": (("Tanh", {}),),
    "sigmoid": (("Sigmoid", {}),),
    "matmul": (("MatMul", {}),),
}


class OnnxRuntime(Engine):
    """ONNX Runtime's CPU execution provider."""

    name = "ONNX Runtime"

    @property
    def version(self) -> str:
        return str(ort.__version__)

    def calls(self, operation: str, inputs: tuple[Any, ...]) -> list[Call]:
        if operation not in _SIMPLE:
            return super().calls(operation, inputs)
        x, *others = inputs
        # What a norm's weights are to a model, the second operand of a product is not.
        weights = {f"weight{i}": array for i, array in enumerate(others) if operation != "matmul"}
        feeds = {"x": x} if operation != "matmul" else {"x": x, "y": others[0]}
        names = " ".join([*feeds, *weights])
        return [
            call
            for operator, attributes in _SIMPLE[operation]
            for call in self._ways(operator, [_node(operator, names, **attributes)], feeds, weights)
        ]

    def swiglu(self, gate: Array, up: Array) -> list[Call]:
        nodes = [_node(f"{_CONTRIB}.QuickGelu", "gate", "silu", alpha=1.0), _node("Mul", "silu up")]
        return self._ways("QuickGelu, Mul", nodes, {"gate": gate, "up": up})

    def rotary_embedding(self, x: Array, cos: Array, sin: Array) -> list[Call]:
        batch, _, tokens, _ = x.shape
        positions = np.tile(np.arange(tokens), (batch, 1))
        constants = {"cos": cos, "sin": sin, "positions": positions}
        standard = _node("RotaryEmbedding", "x cos sin positions")
        contributed = _node(f"{_CONTRIB}.RotaryEmbedding", "x positions cos sin")
        return [
            *self._ways("RotaryEmbedding", [standard], {"x": x}, constants),
            *self._ways(f"{_CONTRIB}.RotaryEmbedding", [contributed], {"x": x}, constants),
        ]

    def linear(self, x: Array, weight: Array, bias: Array, activation: str | None) -> list[Call]:
        out = "product" if activation else "out"
        last: list[NodeProto] = []
        if activation:
            operator, attributes = _SIMPLE[activation][0]
            last = [_node(operator, out, **attributes)]
        gemm = [_node("Gemm", "x weight bias", out, transB=1), *last]
        matmul = [_node("MatMul", "x weight", "xw"), _node("Add", "xw bias", out), *last]
        transposed = np.ascontiguousarray(weight.T)
        return [
            *self._ways("Gemm", gemm, {"x": x}, {"weight": weight, "bias": bias}),
            *self._ways("MatMul, Add", matmul, {"x": x}, {"weight": transposed, "bias": bias}),
        ]

    def attention(self, query: Array, key: Array, value: Array, causal: bool) -> list[Call]:
        """Operators that take (B, H, S, D), and (B, S, H·D): converted outside of the timing."""
        heads, tokens = query.shape[1], query.shape[2]
        feeds = {"query": query, "key": key, "value": value}
        packed = {name: _join_heads(array) for name, array in feeds.items()}
        back = partial(_split_heads, heads=heads)
        sizes = {"q_num_heads": heads, "kv_num_heads": heads}
        names = "query key value"
        plain = _node("Attention", names, is_causal=int(causal))
        joined = _node("Attention", names, is_causal=int(causal), **sizes)
        multi = _node(f"{_CONTRIB}.MultiHeadAttention", names, num_heads=heads, unidirectional=int(causal))
        calls = [
            *self._ways("Attention (B,H,S,D)", [plain], feeds),
            *self._ways("Attention (B,S,H·D)", [joined], packed, array=back),
            *self._ways("MultiHeadAttention", [multi], packed, array=back),
        ]
        if causal:
            # The operator whose CPU kernel skips what causality removes; made for caches, hence the lengths.
            last = {
                "last": np.full(query.shape[0], tokens - 1, np.int32),
                "total": np.array([tokens], np.int32),
            }
            grouped = _node(
                f"{_CONTRIB}.GroupQueryAttention",
                [*packed, "", "", *last],
                num_heads=heads,
                kv_num_heads=heads,
            )
            calls += self._ways("GroupQueryAttention", [grouped], packed, last, array=back)
        return calls

    def attention_varlen(self, query: Array, key: Array, value: Array, cu_seqlens: Array) -> list[Call]:
        """Padded, with the number of valid keys of each sequence."""
        lengths = np.diff(cu_seqlens)
        valid = np.arange(lengths.max()) < lengths[:, None]
        feeds = {}
        for name, array in (("query", query), ("key", key), ("value", value)):
            feeds[name] = np.zeros((*valid.shape, array.shape[1] * array.shape[2]), array.dtype)
            feeds[name][valid] = array.reshape(len(array), -1)
        node = _node(f"{_CONTRIB}.MultiHeadAttention", [*feeds, "", "lengths"], num_heads=query.shape[1])

        def unpadded(result: Array) -> Array:
            return result[valid].reshape(query.shape)

        return self._ways(
            "MultiHeadAttention, padded", [node], feeds, {"lengths": lengths.astype(np.int32)}, array=unpadded
        )

    def encoder_layer(self, x: Array, state: Arrays, heads: int) -> list[Call]:
        """The fused operators that its own optimiser makes of BERT, with either of its attentions."""
        constants = {name: array if array.ndim == 1 else array.T.copy() for name, array in state.items()}
        weights = np.split(constants["self_attn.in_proj_weight"], 3, axis=1)
        constants |= {f"weight_{name}": weight.copy() for name, weight in zip("qkv", weights, strict=True)}
        fused = [
            _node(
                f"{_CONTRIB}.Attention",
                "x self_attn.in_proj_weight self_attn.in_proj_bias",
                "context",
                num_heads=heads,
            )
        ]
        separate = [
            *(_node("MatMul", f"x weight_{name}", name) for name in "qkv"),
            _node(
                f"{_CONTRIB}.MultiHeadAttention", "q k v self_attn.in_proj_bias", "context", num_heads=heads
            ),
        ]
        skip_norm = partial(_node, f"{_CONTRIB}.SkipLayerNormalization", epsilon=1e-5)
        rest = [
            _node("MatMul", "context self_attn.out_proj.weight", "attended"),
            skip_norm("attended x norm1.weight norm1.bias self_attn.out_proj.bias", "hidden"),
            _node("MatMul", "hidden linear1.weight", "product"),
            _node(f"{_CONTRIB}.BiasGelu", "product linear1.bias", "inner"),
            _node("MatMul", "inner linear2.weight", "network"),
            skip_norm("network hidden norm2.weight norm2.bias linear2.bias"),
        ]
        return [
            *self._ways("Attention and fused norms", [*fused, *rest], {"x": x}, constants),
            *self._ways("MultiHeadAttention and fused norms", [*separate, *rest], {"x": x}, constants),
        ]

    def _ways(
        self,
        name: str,
        nodes: Sequence[NodeProto],
        feeds: Arrays,
        constants: Arrays | None = None,
        array: Callable[[Array], Array] = np.asarray,
    ) -> list[Call]:
        session = self._session(nodes, feeds, constants or {})
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

    def _session(self, nodes: Sequence[NodeProto], feeds: Arrays, constants: Arrays) -> Any:
        used = {name for node in nodes for name in node.input}
        graph = helper.make_graph(
            nodes,
            "bench",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
                for name, array in feeds.items()
            ],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
        )
        opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _node(operator: str, inputs: str | Sequence[str], output: str = "out", **attributes: Any) -> NodeProto:
    """Make a node; `operator` may have its domain before it, `inputs` may be words."""
    domain, _, name = operator.rpartition(".")
    names = inputs.split() if isinstance(inputs, str) else inputs
    return helper.make_node(name, names, [output], domain=domain, **attributes)


def _join_heads(array: Array) -> Array:
    batch, heads, tokens, size = array.shape
    return np.ascontiguousarray(array.swapaxes(1, 2)).reshape(batch, tokens, heads * size)


def _split_heads(array: Array, heads: int) -> Array:
    batch, tokens, _ = array.shape
    result: Array = array.reshape(batch, tokens, heads, -1).swapaxes(1, 2)
    return result


ENGINE = OnnxRuntime
