"""ONNX models of a few nodes, as ONNX Runtime's own optimiser would leave them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from attnlib.benchmark.engines.engine import Array

__all__ = ["CONTRIB", "Arrays", "bert", "encoder_layer", "make_model", "make_node", "quantised_weight"]

Arrays = dict[str, Array]

# The domain of ONNX Runtime's own operators.
CONTRIB = "com.microsoft"
_OPSETS = (("", 23), (CONTRIB, 1))
_IR_VERSION = 10


def make_node(
    operator: str, inputs: str | Sequence[str], output: str | Sequence[str] = "out", **attributes: Any
) -> NodeProto:
    """Make a node; `operator` may have its domain before it, inputs and outputs may be words."""
    domain, _, name = operator.rpartition(".")
    sources, targets = (
        words.split() if isinstance(words, str) else list(words) for words in (inputs, output)
    )
    return helper.make_node(name, sources, targets, domain=domain, **attributes)


def make_model(nodes: Sequence[NodeProto], feeds: Arrays, constants: Arrays) -> ModelProto:
    """Make a model from inputs shaped like `feeds` to the float32 results of the last node."""
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "bench",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
            for name, array in feeds.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in nodes[-1].output],
        [numpy_helper.from_array(array, name) for name, array in constants.items() if name in used],
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS]
    return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)


def quantised_weight(weight: Array, bits: int, block: int) -> Arrays:
    """Quantise a weight (N, K) for MatMulNBits: blocks along K with a scale each, symmetric."""
    channels, features = weight.shape
    blocks = weight.reshape(channels, features // block, block)
    middle = 1 << (bits - 1)
    scales = np.abs(blocks).max(axis=-1, keepdims=True) / np.float32(middle - 1)
    whole = (np.rint(blocks / scales) + middle).astype(np.uint8)
    if bits == 4:
        whole = whole[..., ::2] | whole[..., 1::2] << 4
    return {"weight": whole, "scales": scales.reshape(channels, -1).astype(np.float32)}


def encoder_layer(
    state: Arrays,
    heads: int,
    *,
    fused: bool,
    x: str = "x",
    out: str = "out",
    eps: float = 1e-5,
    prefix: str = "",
) -> tuple[list[NodeProto], Arrays]:
    """A layer of the fused operators that the optimiser makes of BERT, with either of its attentions."""
    constants = {prefix + name: array if array.ndim == 1 else array.T.copy() for name, array in state.items()}
    weights = np.split(constants[f"{prefix}self_attn.in_proj_weight"], 3, axis=1)
    constants |= {
        f"{prefix}weight_{name}": weight.copy() for name, weight in zip("qkv", weights, strict=True)
    }

    def named(words: str) -> list[str]:
        # A dot first: a constant of this layer, or a value within it.
        return [prefix + word.removeprefix("./") if word.startswith("./") else word for word in words.split()]

    def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
        return make_node(operator, named(inputs), named(output)[0], **attributes)

    if fused:
        attention = [
            node(
                f"{CONTRIB}.Attention",
                f"{x} ./self_attn.in_proj_weight ./self_attn.in_proj_bias",
                "./context",
                num_heads=heads,
            )
        ]
    else:
        attention = [
            *(node("MatMul", f"{x} ./weight_{name}", f"./{name}") for name in "qkv"),
            node(
                f"{CONTRIB}.MultiHeadAttention",
                "./q ./k ./v ./self_attn.in_proj_bias",
                "./context",
                num_heads=heads,
            ),
        ]
    skip_norm = partial(node, f"{CONTRIB}.SkipLayerNormalization", epsilon=eps)
    nodes = [
        *attention,
        node("MatMul", "./context ./self_attn.out_proj.weight", "./attended"),
        skip_norm(f"./attended {x} ./norm1.weight ./norm1.bias ./self_attn.out_proj.bias", "./hidden"),
        node("MatMul", "./hidden ./linear1.weight", "./product"),
        node(f"{CONTRIB}.BiasGelu", "./product ./linear1.bias", "./inner"),
        node("MatMul", "./inner ./linear2.weight", "./network"),
        skip_norm("./network ./hidden ./norm2.weight ./norm2.bias ./linear2.bias", out),
    ]
    return nodes, constants


def bert(folder: Path, tokens: int, *, fused: bool) -> tuple[list[NodeProto], Arrays]:
    """A BERT encoder of a Hugging Face folder, from token numbers ``ids`` (B, tokens) that are all valid."""
    from safetensors.numpy import load_file

    from attnlib.models.families.bert import NAMES

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    file = load_file(folder / "model.safetensors")
    eps = float(config["layer_norm_eps"])
    constants = {
        "words": file[f"{NAMES.word}.weight"],
        "places": file[f"{NAMES.position}.weight"][:tokens] + file[f"{NAMES.token_type}.weight"][0],
        "norm.weight": file[f"{NAMES.norm}.weight"],
        "norm.bias": file[f"{NAMES.norm}.bias"],
    }
    nodes = [
        make_node("Gather", "words ids", "looked_up"),
        make_node("Add", "looked_up places", "summed"),
        make_node("LayerNormalization", "summed norm.weight norm.bias", "hidden0", axis=-1, epsilon=eps),
    ]
    last = int(config["num_hidden_layers"]) - 1
    for i in range(last + 1):
        state = {
            ours + kind: np.concatenate([file[f"{name.format(i=i)}.{kind}"] for name in theirs])
            for ours, theirs in NAMES.layer.items()
            for kind in ("weight", "bias")
        }
        layer, weights = encoder_layer(
            state,
            int(config["num_attention_heads"]),
            fused=fused,
            x=f"hidden{i}",
            out="out" if i == last else f"hidden{i + 1}",
            eps=eps,
            prefix=f"layer{i}.",
        )
        nodes += layer
        constants |= weights
    return nodes, constants
