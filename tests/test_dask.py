"""What engines such as Dask need of functions: they pickle, and map over blocks."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from arrays import normal, same_bits

import attnlib as al

FUNCTIONS = [
    name for name in al.__all__ if callable(getattr(al, name)) and not isinstance(getattr(al, name), type)
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_pickle(name: str) -> None:
    function = getattr(al, name)
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("scheduler", ["synchronous", "threads"])
def test_map_blocks(scheduler: str, rng: np.random.Generator) -> None:
    array = pytest.importorskip("dask.array", reason="Dask is not installed")
    x = normal(rng, (64, 33), np.float32)
    blocks = array.from_array(x, chunks=(7, 33))
    mapped = array.map_blocks(al.softmax, blocks, dtype=x.dtype)
    assert same_bits(mapped.compute(scheduler=scheduler), al.softmax(x))
    both = array.map_blocks(al.layer_norm, blocks, dtype=x.dtype, weight=np.ones(33, np.float32))
    assert same_bits(both.compute(scheduler=scheduler), al.layer_norm(x, np.ones(33, np.float32)))
