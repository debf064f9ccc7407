"""attnlib.cuda: apart from attnlib; the checks of the CPU; where there is a GPU, the same results."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import DTYPES, FLOAT32, epsilon, normal
from processes import RunPython
from tolerance import assert_within, matmul_bound, softmax_bound

try:
    from attnlib import cuda
except ImportError:
    cuda = None  # type: ignore[assignment]

built = pytest.mark.skipif(cuda is None, reason="built without -DATTNLIB_CUDA=ON")
gpu = pytest.mark.skipif(cuda is None or not cuda.device_count(), reason="no CUDA module, or no GPU")


def test_attnlib_never_touches_cuda(run_python: RunPython) -> None:
    lines = (
        "import pathlib, sys, attnlib",
        "assert 'attnlib.cuda' not in sys.modules",
        "maps = pathlib.Path('/proc/self/maps').read_text()",
        "assert 'libcuda' not in maps and '_cuda.' not in maps",
    )
    run_python("\n".join(lines))


@pytest.mark.skipif(cuda is not None, reason="the CUDA module is built")
def test_import_says_how_to_build() -> None:
    with pytest.raises(ImportError, match="ATTNLIB_CUDA=ON"):
        importlib.import_module("attnlib.cuda")


@built
def test_shapes_and_dtypes_are_refused_before_a_gpu_is_looked_for() -> None:
    x = np.zeros((2, 4, 8, 64), np.float32)
    with pytest.raises(ValueError, match="same head size D, got query"):
        cuda.attention(x, x[..., :32], x)
    with pytest.raises(ValueError, match="multiple of those of key and value"):
        cuda.attention(x, x[:, :3], x[:, :3])
    with pytest.raises(ValueError, match="key_lengths must lie between 0 and Sk = 8, got 9"):
        cuda.attention(x, x, x, key_lengths=[1, 9])
    wide = np.zeros((1, 1, 257), np.float32)
    with pytest.raises(ValueError, match=r"head sizes from 1 to 256 .* D = 257"):
        cuda.attention(wide, wide, wide)
    with pytest.raises(TypeError, match="float64 is not supported"):
        cuda.softmax(x.astype(np.float64))
    with pytest.raises(TypeError, match="x must be float32"):
        cuda.softmax(x.astype(np.int32))
    with pytest.raises(ValueError, match="axis 4 is out of range"):
        cuda.softmax(x, 4)
    with pytest.raises(ValueError, match="matmul: the last axis of a"):
        cuda.matmul(x, x)


@built
@pytest.mark.skipif(cuda is not None and cuda.device_count() > 0, reason="there is a GPU")
def test_without_a_driver_there_is_an_error() -> None:
    x = np.zeros((8, 8), np.float32)
    for call in (lambda: cuda.matmul(x, x), lambda: cuda.softmax(x), lambda: cuda.attention(x, x, x)):
        with pytest.raises(RuntimeError, match=r"CUDA says .*NVIDIA driver"):
            call()


@gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_results_on_a_gpu(rng: np.random.Generator, dtype: str) -> None:
    a, b = normal(rng, (3, 129, 70), DTYPES[dtype]), normal(rng, (70, 33), DTYPES[dtype])
    assert_within(cuda.matmul(a, b), oracle.matmul(a, b), matmul_bound(a, b, epsilon(FLOAT32)))
    exact = oracle.softmax(a, 1)
    assert_within(cuda.softmax(a, 1), exact, softmax_bound(a, exact, 1, epsilon(FLOAT32)))


@gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("size", [32, 80, 128, 256])
def test_attention_on_a_gpu(rng: np.random.Generator, size: int, dtype: str) -> None:
    from test_emulated import assert_attention

    q = normal(rng, (2, 4, 100, size), DTYPES[dtype])
    k, v = (normal(rng, (2, 2, 133, size), DTYPES[dtype]) for _ in range(2))
    options: dict[str, Any] = {"causal": True, "key_lengths": [133, 57]}
    assert_attention(cuda.attention(q, k, v, **options), q, k, v, **options)


@gpu
def test_dlpack_on_a_gpu(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch without CUDA")
    q = torch.from_numpy(normal(rng, (1, 2, 50, 64), FLOAT32)).cuda()
    stream = torch.cuda.current_stream().cuda_stream or 1
    result = torch.from_dlpack(cuda.attention(q, q, q, stream=stream))
    assert result.is_cuda
    assert_within(result.cpu().numpy(), oracle.attention(*[q.cpu().numpy()] * 3).output, 1e-5)


@gpu
def test_the_callers_device_stays_current(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.device_count() < 2:
        pytest.skip("needs PyTorch with CUDA and two GPUs")
    x = torch.from_numpy(normal(rng, (300, 200), FLOAT32)).to("cuda:1")
    with torch.cuda.device(0):
        result = cuda.softmax(x)
        assert result.device == 1
        assert_within(result.numpy(), torch.softmax(x, -1).cpu().numpy(), 1e-6)
        assert torch.from_dlpack(result).device == x.device
        assert torch.cuda.current_device() == 0
