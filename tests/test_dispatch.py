"""last_dispatch: what the last call on this thread did, and why it took a slower path."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest

import attnlib as al


def ones(*shape: int, dtype: type = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def test_names_the_operation_and_the_rung() -> None:
    x = ones(3, 8)
    for call, operation in (
        (lambda: al.matmul(x, x.T), "matmul"),
        (lambda: al.linear(x, x), "linear"),
        (lambda: al.softmax(x), "softmax"),
        (lambda: al.log_softmax(x), "log_softmax"),
        (lambda: al.layer_norm(x), "layer_norm"),
        (lambda: al.rms_norm(x), "rms_norm"),
        (lambda: al.gelu(x), "gelu"),
        (lambda: al.swiglu(x, x), "swiglu"),
        (lambda: al.attention(x, x, x), "attention"),
        (lambda: al.attention_varlen(x[:, None], x[:, None], x[:, None], [0, 3]), "attention_varlen"),
        (lambda: al.merge_attention(x[:, None], x[:, :1]), "merge_attention"),
        (lambda: al.rotary_embedding(x, ones(3, 4), ones(3, 4)), "rotary_embedding"),
    ):
        call()
        record = al.last_dispatch()
        assert record is not None
        assert (record.operation, record.rung) == (operation, al.isa())
        assert record.threads >= 1
        assert record.kernel
        assert record.plan


@pytest.mark.parametrize("stored", ["float32", "bfloat16", "int8", "int4"])
def test_kernels_of_packed_weights(stored: str) -> None:
    al.linear(ones(3, 64), al.pack_weight(ones(5, 64), dtype=stored))
    record = al.last_dispatch()
    assert record is not None
    assert record.kernel.startswith(stored)
    assert record.plan == "packed weight"
    assert record.notes == ()


def test_plans_of_attention() -> None:
    cache, many = ones(1, 2, 300, 8), ones(1, 2, 100, 8)
    for query, plan in ((ones(1, 4, 1, 8), "decoding"), (ones(1, 2, 100, 8), "tiles")):
        al.attention(query, cache, cache)
        record = al.last_dispatch()
        assert record is not None
        assert record.plan.startswith(plan)
        assert record.kernel == "float32"
    al.attention(many.astype(np.float16), cache.astype(np.float16), cache.astype(np.float16))
    record = al.last_dispatch()
    assert record is not None
    assert record.kernel == "float16 widened"


def test_the_matrix_unit_is_named_where_it_works() -> None:
    """Products and tiles are its work; a single query meets its keys by it in steps of 32 features."""
    with_unit = al.isa() == "avx512_amx"
    x, cache = ones(100, 64).astype(ml_dtypes.bfloat16), ones(1, 2, 300, 8).astype(ml_dtypes.bfloat16)
    wide = ones(1, 2, 300, 64).astype(ml_dtypes.bfloat16)
    for call, by_unit in (
        (lambda: al.linear(x, al.pack_weight(x)), True),
        (lambda: al.linear(ones(3, 64), al.pack_weight(ones(5, 64), dtype="int8")), True),
        (lambda: al.attention(cache, cache, cache), True),
        (lambda: al.attention(cache[..., :1, :], cache, cache), False),
        (lambda: al.attention(wide[..., :1, :], wide, wide), True),
    ):
        call()
        record = al.last_dispatch()
        assert record is not None
        assert record.kernel.endswith("matrix unit") == (with_unit and by_unit)


def test_slower_paths_are_told() -> None:
    x, weight = ones(30, 64), ones(48, 64)
    for call, note in (
        (lambda: al.linear(x[:, ::2], weight[:, ::2]), "x copied: its last axis is not contiguous"),
        (
            lambda: al.linear(x.astype(">f4"), weight),
            "x copied: it is not aligned, or of the other byte order",
        ),
        (lambda: al.linear(x, weight.astype(np.float64)), "x copied: it is of another dtype than the result"),
        (
            lambda: al.linear(x.astype(np.float64), al.pack_weight(weight, dtype="int8")),
            "weight unpacked: its format is not computed in float64",
        ),
    ):
        call()
        record = al.last_dispatch()
        assert record is not None
        assert note in record.notes
    al.linear(x, weight)
    record = al.last_dispatch()
    assert record is not None
    assert "packed on the way" in record.plan
    assert record.workspace_bytes >= weight.nbytes  # the panels


def test_threads_of_the_call_and_of_the_caller() -> None:
    """Each Python thread has its own record; it counts the threads that took part."""
    x, weight = ones(512, 256), al.pack_weight(ones(512, 256))
    with al.num_threads(2):
        al.linear(x, weight)
        record = al.last_dispatch()
    assert record is not None
    assert record.threads == 2
    found: list[object] = []
    worker = threading.Thread(target=lambda: found.append(al.last_dispatch()))
    worker.start()
    worker.join()
    assert found == [None]
    with al.num_threads(1):
        al.linear(x, weight)
        record = al.last_dispatch()
    assert record is not None
    assert record.threads == 1
