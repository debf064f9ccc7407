"""onnx_like against ONNX's reference implementation, in float64, over random options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from arrays import normal

from attnlib.compat import onnx_like

Attention = onnx_like.Attention
INPUTS = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")
OUTPUTS = ("Y", "present_key", "present_value", "qk_matmul_output")
EPS_FLOAT64 = float(np.finfo(np.float64).eps)


def random_case(rng: np.random.Generator, opset: int) -> tuple[dict[str, Any], dict[str, Any]]:
    batch, groups, repeats = (int(n) for n in rng.integers(1, 4, 3))
    queries, keys, size, value_size = (int(n) for n in rng.integers(1, 20, 4))
    heads = groups * repeats
    flat = rng.random() < 0.5
    inputs: dict[str, Any] = {
        "Q": normal(rng, (batch, heads, queries, size), np.float64),
        "K": normal(rng, (batch, groups, keys, size), np.float64),
        "V": normal(rng, (batch, groups, keys, value_size), np.float64),
    }
    attributes: dict[str, Any] = {
        "is_causal": int(rng.random() < 0.5),
        "qk_matmul_output_mode": int(rng.integers(1, 4)),
    }
    if flat:
        for name in "QKV":
            inputs[name] = inputs[name].swapaxes(1, 2).reshape(batch, inputs[name].shape[2], -1)
        attributes |= {"q_num_heads": heads, "kv_num_heads": groups}
    total = keys
    if rng.random() < 0.4:
        past = int(rng.integers(1, 9))
        total += past
        inputs["past_key"] = normal(rng, (batch, groups, past, size), np.float64)
        inputs["past_value"] = normal(rng, (batch, groups, past, value_size), np.float64)
    elif opset >= 24 and rng.random() < 0.5:
        inputs["nonpad_kv_seqlen"] = rng.integers(1, keys + 1, batch)
    match rng.integers(4):
        case 1:
            inputs["attn_mask"] = rng.random((batch, 1, queries, total)) < 0.6
        case 2:
            inputs["attn_mask"] = normal(rng, (queries, total), np.float64)
        case 3 if opset >= 24 and "nonpad_kv_seqlen" not in inputs:
            inputs["attn_mask"] = rng.random((heads, queries, max(total - 2, 1))) < 0.6
    # Attributes are float32, and the reference takes the root of the scale in it: exact for these.
    if rng.random() < 0.4:
        attributes["scale"] = float(rng.integers(16, 64) / 64) ** 2
    if rng.random() < 0.4:
        attributes["softcap"] = float(np.float32(rng.uniform(1.0, 10.0)))
    return inputs, attributes


def reference(inputs: dict[str, Any], attributes: dict[str, Any], opset: int) -> list[np.ndarray]:
    """What ONNX's reference evaluator makes of a model of this one operator."""
    onnx = pytest.importorskip("onnx", minversion="1.23", reason="onnx 1.23 is not installed")
    evaluator = pytest.importorskip("onnx.reference")
    helper = onnx.helper
    last = max(INPUTS.index(name) for name in inputs)
    names = [name if name in inputs else "" for name in INPUTS[: last + 1]]
    node = helper.make_node("Attention", names, OUTPUTS, **attributes)

    def described(name: str, array: np.ndarray) -> Any:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    results = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in OUTPUTS]
    graph = helper.make_graph([node], "attention", [described(*item) for item in inputs.items()], results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    found: list[np.ndarray] = evaluator.ReferenceEvaluator(model).run(None, inputs)
    return found


def largest_difference(result: np.ndarray, wanted: np.ndarray) -> float:
    """Of what is not hidden; what is hidden must be the same."""
    hidden = np.isneginf(wanted)
    assert np.array_equal(np.isneginf(result), hidden)
    return float(np.abs(result[~hidden].astype(np.float64) - wanted[~hidden]).max(initial=0.0))


@pytest.mark.parametrize("opset", [23, 24])
@pytest.mark.parametrize("seed", range(25))
def test_agrees_with_the_reference(seed: int, opset: int) -> None:
    inputs, attributes = random_case(np.random.default_rng(seed), opset)
    expected = reference(inputs, attributes, opset)
    results = Attention(**inputs, **attributes)
    # The reference multiplies queries and keys by sqrt(scale) first; 64 eps sqrt(D) of the largest value.
    bound = 64 * EPS_FLOAT64 * math.sqrt(inputs["Q"].shape[-1]) * max(1.0, np.abs(inputs["V"]).max())
    for name, result, wanted in zip(OUTPUTS, results, expected, strict=True):
        assert result is not None
        assert result.shape == wanted.shape, name
        assert largest_difference(result, wanted) <= bound, name


def test_options_that_are_refused(rng: np.random.Generator) -> None:
    x = normal(rng, (1, 2, 3, 4), np.float32)
    flat = x.reshape(1, 3, 8)
    with pytest.raises(ValueError, match=r"qk_matmul_output_mode must be 0, 1, 2 or 3, got 4"):
        Attention(x, x, x, qk_matmul_output_mode=4)
    with pytest.raises(NotImplementedError, match=r"softmax_precision must be 1.*10"):
        Attention(x, x, x, softmax_precision=10)
    with pytest.raises(ValueError, match="q_num_heads must be given"):
        Attention(flat, flat, flat)
    with pytest.raises(ValueError, match="q_num_heads must be the 2 of the input, got 3"):
        Attention(x, x, x, q_num_heads=3)
    with pytest.raises(ValueError, match="multiple of 3 heads, got 8"):
        Attention(flat, flat, flat, q_num_heads=3, kv_num_heads=3)
    with pytest.raises(ValueError, match="past_key and past_value"):
        Attention(x, x, x, past_key=x)
    with pytest.raises(ValueError, match="nonpad_kv_seqlen must not"):
        Attention(x, x, x, None, x, x, [3])
    assert Attention(x, x, x, softmax_precision=1)[3] is None


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scores_of_other_dtypes(rng: np.random.Generator, dtype: str) -> None:
    q, k = (
        normal(rng, (2, 4, 5, 8), np.float32).astype(dtype),
        normal(rng, (2, 2, 3, 8), np.float32).astype(dtype),
    )
    mask = rng.random((5, 3)) < 0.5
    scores = Attention(q, k, k, mask, qk_matmul_output_mode=2, softcap=2.0)[3]
    assert scores is not None
    assert scores.dtype == dtype
    expected = q.astype(np.float64) @ k.astype(np.float64).repeat(2, axis=1).swapaxes(2, 3) / math.sqrt(8)
    expected = np.where(mask, 2.0 * np.tanh(expected / 2.0), -np.inf)
    # Bounded by 2: eight products in float32, then one rounding.
    bound = 2.0 * (float(np.finfo(dtype).eps) + 16 * float(np.finfo(np.float32).eps))
    assert largest_difference(scores, expected) <= bound


def test_scores_of_other_bytes_and_one_sequence_for_many(rng: np.random.Generator) -> None:
    q, k = normal(rng, (1, 2, 5, 33), np.float64), normal(rng, (3, 1, 4, 33), np.float64)
    scores = Attention(q, k, k, qk_matmul_output_mode=1)[3]
    assert scores is not None
    expected = q @ k.swapaxes(2, 3) / math.sqrt(33)
    assert scores.shape == expected.shape
    assert largest_difference(scores, expected) <= 64 * EPS_FLOAT64 * math.sqrt(33)
    swapped = Attention(q.astype(">f8"), k.astype(">f8"), k, qk_matmul_output_mode=1)[3]
    assert swapped is not None
    assert swapped.dtype == np.float64
    assert swapped.tobytes() == scores.tobytes()
