"""The oracle is judged too: by PyTorch, by examples made by hand, by mistakes its tolerances must notice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import oracle
import pytest
import tolerance
from arrays import BFLOAT16, DTYPES, LAYOUTS, normal
from attention_examples import EXAMPLES, Example


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
def test_attention_by_hand(example: Example) -> None:
    """Scores of zero or simple logarithms, so that the weights can be read off."""
    result = oracle.attention(example.query, example.key, example.value, **example.options)
    assert np.allclose(result.weights, example.weights, rtol=0, atol=1e-12)
    assert np.allclose(result.output, example.weights @ example.value, rtol=0, atol=1e-12)
    assert np.allclose(np.exp(result.lse), example.total, rtol=1e-12, atol=0)


def test_against_torch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    functional = torch.nn.functional
    x, w, b = (rng.standard_normal(shape) for shape in ((5, 12), (12,), (12,)))
    t, tw, tb = map(torch.from_numpy, (x, w, b))
    pairs: list[tuple[Any, Any]] = [
        (oracle.gelu(x), functional.gelu(t)),
        (oracle.gelu(x, "tanh"), functional.gelu(t, approximate="tanh")),
        (oracle.silu(x), functional.silu(t)),
        (oracle.sigmoid(x), torch.sigmoid(t)),
        (oracle.softmax(x, 0), functional.softmax(t, 0)),
        (oracle.log_softmax(x), functional.log_softmax(t, -1)),
        (oracle.layer_norm(x, w, b), functional.layer_norm(t, (12,), tw, tb)),
        (oracle.rms_norm(x, w), functional.rms_norm(t, (12,), tw, 1e-5)),
        (oracle.linear(x, x, None, "gelu"), functional.gelu(functional.linear(t, t))),
    ]
    q, k, v = (rng.standard_normal((2, heads, 7, 4)) for heads in (6, 2, 2))
    bias, mask = rng.standard_normal((6, 7, 7)), np.tri(7, dtype=bool)
    joined = torch.from_numpy(np.where(mask, bias, -np.inf))
    tensors = tuple(map(torch.from_numpy, (q, k, v)))
    theirs = functional.scaled_dot_product_attention(*tensors, attn_mask=joined, scale=0.3, enable_gqa=True)
    for options in (
        {"mask": mask, "bias": bias},
        {"causal": True, "bias": bias},
        {"window": (None, 0), "bias": bias},
    ):
        pairs.append((oracle.attention(q, k, v, scale=0.3, **options).output, theirs))
    for ours, other in pairs:
        assert np.allclose(ours, other.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backwards", [False, True])
def test_lstm_against_torch(backwards: bool, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for size in (None, 3):
        layer = torch.nn.LSTM(6, 5, batch_first=True, proj_size=size or 0).double()
        state = {name: tensor.numpy() for name, tensor in layer.state_dict().items()}
        x, h, c = (rng.standard_normal(shape) for shape in ((2, 7, 6), (2, size or 5), (2, 5)))
        flipped = np.ascontiguousarray(x[:, ::-1] if backwards else x)
        with torch.inference_mode():
            found, (_, cell) = layer(
                torch.from_numpy(flipped), (torch.from_numpy(h[None]), torch.from_numpy(c[None]))
            )
        projected = x @ state["weight_ih_l0"].T + state["bias_ih_l0"] + state["bias_hh_l0"]
        out, last = oracle.lstm_steps(
            projected, state["weight_hh_l0"], h, c, state.get("weight_hr_l0"), backwards
        )
        assert np.allclose(out[:, ::-1] if backwards else out, found.numpy(), rtol=1e-12, atol=1e-12)
        assert np.allclose(last, cell.numpy()[0], rtol=1e-12, atol=1e-12)


def test_rotary_turns_by_the_angle() -> None:
    """A pair (1, 0) at position p becomes (cos p, sin p); interleaved pairs are neighbours."""
    cos, sin = oracle.rotary_tables(5, 2)
    x = np.tile([1.0, 0.0, 9.0], (1, 1, 5, 1))
    for interleaved in (False, True):
        turned = oracle.rotary_embedding(x, cos, sin, interleaved=interleaved)
        assert np.allclose(turned[0, 0, :, 0], np.cos(np.arange(5)))
        assert np.allclose(turned[0, 0, :, 1], np.sin(np.arange(5)))
        assert np.all(turned[..., 2] == 9)
    x = np.tile([1.0, 2.0, 0.0, 0.0], (1, 1, 5, 1))
    cos, sin = oracle.rotary_tables(5, 4)
    halves = oracle.rotary_embedding(x, cos, sin)
    assert np.allclose(halves[0, 0, :, 2], np.sin(np.arange(5)))
    assert np.allclose(halves[0, 0, :, 3], 2 * np.sin(np.arange(5) / 100))


def test_sinusoids() -> None:
    table = oracle.sinusoidal_encoding(3, 4)
    assert np.allclose(table[0], [0, 1, 0, 1])
    assert np.allclose(table[2], [math.sin(2), math.cos(2), math.sin(0.02), math.cos(0.02)])


def test_merging(rng: np.random.Generator) -> None:
    query, key, value = (rng.standard_normal((2, n, 4)) for n in (3, 9, 9))
    whole = oracle.attention(query, key, value)
    parts = [oracle.attention(query, key[:, a:b], value[:, a:b]) for a, b in ((0, 0), (0, 4), (4, 9))]
    out, lse = oracle.merge_attention([p.output for p in parts], [p.lse for p in parts])
    assert np.allclose(out, whole.output)
    assert np.allclose(lse, whole.lse)


def test_float32_arithmetic_passes_and_a_small_mistake_fails(rng: np.random.Generator) -> None:
    """The tolerances admit NumPy's own float32 and refuse errors a few times larger than its."""
    a, b = normal(rng, (30, 64), np.float32), normal(rng, (64, 30), np.float32)
    exact, bound = oracle.matmul(a, b), tolerance.matmul_bound(a, b, 2.0**-23)
    tolerance.assert_within(a @ b, exact, bound)
    with pytest.raises(AssertionError, match="out of tolerance"):
        tolerance.assert_within((a @ b) * np.float32(1 + 1e-3), exact, bound)
    with pytest.raises(AssertionError, match="NaN"):
        tolerance.assert_within(np.where(np.eye(30), np.nan, exact).astype(np.float32), exact, bound)

    query, key, value = (normal(rng, (40, 16), np.float32) for _ in range(3))
    whole = oracle.attention(query, key, value)
    scores = query @ key.T * np.float32(0.25)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    bounds = tolerance.attention_bounds(whole, 16, np.float32)
    tolerance.assert_within(weights @ value, whole.output, bounds[0])
    tolerance.assert_within(weights, whole.weights, bounds[1])
    with pytest.raises(AssertionError, match="out of tolerance"):
        tolerance.assert_within((weights @ value) * np.float32(1 + 1e-3), whole.output, bounds[0])

    rounded = whole.output.astype(BFLOAT16)
    tolerance.assert_within(rounded, whole.output, 0.0)
    with pytest.raises(AssertionError, match="out of tolerance"):
        tolerance.assert_within((rounded * BFLOAT16.type(1.01)), whole.output, 0.0)

    x = (rng.standard_normal((4, 300)) + 1000).astype(np.float32)
    norm = oracle.layer_norm(x)
    mean = x.mean(axis=-1, keepdims=True)
    bound = tolerance.layer_norm_bound(x, None, None, 1e-5, norm, 2.0**-23)
    two_pass = (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + np.float32(1e-5))
    tolerance.assert_within(two_pass, norm, bound)
    one_pass = (x - mean) / np.sqrt(
        np.maximum((x**2).mean(axis=-1, keepdims=True) - mean**2, 0) + np.float32(1e-5)
    )
    with pytest.raises(AssertionError, match="out of tolerance"):
        tolerance.assert_within(one_pass, norm, bound)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_layouts_keep_values(layout: str, dtype: np.dtype[Any], rng: np.random.Generator) -> None:
    """Only those that broadcast may change them."""
    for shape in ((7,), (3, 5), (2, 3, 4, 5), (2, 0, 3), (0,)):
        x = normal(rng, shape, dtype)
        y = LAYOUTS[layout](x)
        assert y.shape == x.shape
        if not layout.startswith("broadcast"):
            assert np.array_equal(y.astype(np.float64), x.astype(np.float64))
