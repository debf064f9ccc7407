"""torch_like against PyTorch, in float64, over random options."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from arrays import normal

from attnlib.compat import torch_like

sdpa = torch_like.scaled_dot_product_attention
EPS_FLOAT64 = float(np.finfo(np.float64).eps)


def random_case(rng: np.random.Generator) -> tuple[tuple[np.ndarray, ...], dict[str, Any]]:
    batch = tuple(int(n) for n in rng.integers(1, 3, rng.integers(1, 3)))
    groups, repeats = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    queries, keys, size, value_size = (int(n) for n in rng.integers(1, 40, 4))
    arrays = (
        normal(rng, (*batch, groups * repeats, queries, size), np.float64),
        normal(rng, (*batch, groups, keys, size), np.float64),
        normal(rng, (*batch, groups, keys, value_size), np.float64),
    )
    options: dict[str, Any] = {"enable_gqa": repeats > 1}
    if rng.random() < 0.5:
        options["scale"] = float(rng.uniform(0.05, 1.0))
    match rng.integers(4):
        case 1:
            options["is_causal"] = True
        case 2:
            options["attn_mask"] = rng.random((*batch, 1, queries, keys)) < 0.6
        case 3:
            options["attn_mask"] = normal(rng, (groups * repeats, queries, keys), np.float64)
    return arrays, options


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_torch(seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arrays, options = random_case(np.random.default_rng(seed))
    given = {
        name: torch.from_numpy(value) if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    tensors = [torch.from_numpy(array) for array in arrays]
    expected = torch.nn.functional.scaled_dot_product_attention(*tensors, **given).numpy()
    # Scores are of order sqrt(D) before they are scaled: 64 eps sqrt(D) of the largest value.
    bound = 64 * EPS_FLOAT64 * math.sqrt(arrays[0].shape[-1]) * max(1.0, np.abs(arrays[2]).max())
    for result in (sdpa(*arrays, **options), sdpa(*tensors, **given)):
        assert result.shape == expected.shape
        assert np.abs(result - expected).max() <= bound


def test_refusals() -> None:
    x = np.zeros((1, 4, 3, 2), np.float32)
    with pytest.raises(NotImplementedError, match=r"dropout_p must be 0\.0.*0\.1"):
        sdpa(x, x, x, dropout_p=0.1)
    with pytest.raises(ValueError, match="attn_mask and is_causal"):
        sdpa(x, x, x, np.ones((3, 3), bool), is_causal=True)
    with pytest.raises(ValueError, match=r"enable_gqa.*\(1, 4, 3, 2\)"):
        sdpa(x, x[:, :2], x[:, :2])


@pytest.mark.parametrize("name", ["query", "key", "value", "attn_mask"])
def test_what_is_no_array_is_named(name: str) -> None:
    x = np.ones((1, 1, 2, 2))
    arguments = {"query": x, "key": x, "value": x, "attn_mask": np.ones((2, 2), bool)}
    masked = np.ma.masked_array(arguments[name])
    with pytest.raises(TypeError, match=f"^scaled_dot_product_attention: {name} is a masked array"):
        sdpa(**arguments | {name: masked})
    with pytest.raises(ValueError, match=f"^scaled_dot_product_attention: {name} is not an array"):
        sdpa(**arguments | {name: [[1.0], [1.0, 2.0]]})
