"""Results do not depend on the caller's floating-point environment, and a call leaves it as it was."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from arrays import BFLOAT16, normal
from attention_check import make_qkv

import attnlib as al

X86 = platform.machine() == "x86_64"
UPWARD, DOWNWARD, TOWARD_ZERO = (0x800, 0x400, 0xC00) if X86 else (0x400000, 0x800000, 0xC00000)
FLUSH = 0x8040  # FTZ and DAZ in MXCSR


class Environment:
    """C's <fenv.h> for the calling thread."""

    def __init__(self) -> None:
        self._libm = ctypes.CDLL(ctypes.util.find_library("m"))

    def bytes(self) -> bytes:
        """All of fenv_t: rounding, exception flags, traps; on x86 of the x87 and in MXCSR."""
        state = ctypes.create_string_buffer(64)
        self._libm.fegetenv(state)
        return state.raw

    def restore(self, state: bytes) -> None:
        self._libm.fesetenv(ctypes.create_string_buffer(state, 64))

    def round(self, direction: int) -> None:
        assert self._libm.fesetround(direction) == 0

    def flush(self) -> None:
        state = bytearray(self.bytes())
        state[28:32] = (int.from_bytes(state[28:32], "little") | FLUSH).to_bytes(4, "little")  # __mxcsr
        self.restore(bytes(state))


@pytest.fixture
def environment() -> Iterator[Environment]:
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("knows the <fenv.h> of Linux on x86-64 and aarch64")
    environment = Environment()
    before = environment.bytes()
    yield environment
    environment.restore(before)


def calls(rng: np.random.Generator) -> dict[str, Callable[[], np.ndarray[Any, Any]]]:
    query, key, value = make_qkv(rng, (1,), 4, 2, 70, 90, 32)
    x, weight = normal(rng, (40, 96), np.float32), normal(rng, (64, 96), np.float32)
    packed = {name: al.pack_weight(weight, dtype=name) for name in ("float32", "bfloat16", "int8", "int4")}
    wide, half = x.astype(np.float64), x.astype(np.float16)
    return {
        "attention": lambda: al.attention(query, key, value, causal=True),
        "decoding": lambda: al.attention(query[:, :, :1], key, value),
        "matmul": lambda: al.matmul(x, weight.T),
        "matmul float64": lambda: al.matmul(wide, wide.T),
        "matmul float16": lambda: al.matmul(half, half.T),
        "softmax": lambda: al.softmax(x * 30),
        "layer_norm": lambda: al.layer_norm(x),
        "gelu": lambda: al.gelu(wide),
        "swiglu": lambda: al.swiglu(x, x),
        "pack_weight": lambda: al.pack_weight(weight, dtype="int4").unpack(),
        **{f"linear {name}": lambda p=p: al.linear(x, p) for name, p in packed.items()},  # type: ignore[misc]
    }


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("setting", ["upward", "downward", "toward zero", "flush", "flags"])
def test_the_callers_environment(
    setting: str, threads: int, rng: np.random.Generator, environment: Environment
) -> None:
    """Bits are the same in each, and it is the same after each call, its exception flags included."""
    if setting == "flush" and not X86:
        pytest.skip("sets MXCSR")
    directions = {"upward": UPWARD, "downward": DOWNWARD, "toward zero": TOWARD_ZERO}
    functions = calls(rng)
    standard = environment.bytes()
    with al.num_threads(threads):
        expected = {name: function().tobytes() for name, function in functions.items()}
        for name, function in functions.items():
            if name == "softmax":
                continue  # NumPy computes in it, too
            if setting in directions:
                environment.round(directions[setting])
            elif setting == "flush":
                environment.flush()
            before = environment.bytes()
            result = function()
            after = environment.bytes()
            environment.restore(standard)
            assert after == before, name
            assert result.tobytes() == expected[name], name


@pytest.mark.skipif(not X86, reason="sets MXCSR")
def test_workers_do_not_inherit_it(rng: np.random.Generator, environment: Environment) -> None:
    """Threads that begin while the caller rounds upward round to nearest."""
    from concurrent.futures import ThreadPoolExecutor

    query, key, value = make_qkv(rng, (1,), 4, 2, 300, 300, 32)
    expected = al.attention(query, key, value).tobytes()

    def work(_: int) -> bytes:  # a new thread, with a team of its own, inherits what this one is set to
        return bytes(al.attention(query, key, value).tobytes())

    environment.round(UPWARD)
    with al.num_threads(2), ThreadPoolExecutor(2) as pool:
        results = set(pool.map(work, range(4)))
    assert results == {expected}


def test_subnormal_numbers_count_as_zero(rng: np.random.Generator) -> None:
    """As inputs and as results; relu, which computes nothing, keeps them, and so does float16, whose are no
    subnormal numbers in float32."""
    for dtype in (np.float32, np.float64, BFLOAT16):
        tiny = np.full((8, 40), al_smallest(dtype), dtype)
        assert np.array_equal(al.relu(tiny), tiny)
        assert not al.relu(-tiny).any()
        ones = np.ones((40, 3), dtype)
        assert not al.matmul(tiny, ones * dtype_of(dtype, 100.0)).any()
        assert al.softmax(tiny).astype(np.float64) == pytest.approx(1 / 40, rel=0.01)
        assert al.attention(tiny, tiny, np.ones((8, 40), dtype)).astype(np.float64) == pytest.approx(1.0)
    row = np.zeros((1, 20), np.float32)
    row[0, 1:] = -95.0  # e^-95 is subnormal in float32
    assert np.array_equal(al.softmax(row), np.eye(1, 20, dtype=np.float32))
    halves = np.arange(1, 1024, dtype=np.uint16).view(np.float16)  # all subnormal numbers of float16
    assert np.array_equal(al.matmul(halves[:, None], np.ones((1, 1), np.float16))[:, 0], halves)


def al_smallest(dtype: Any) -> float:
    """A number in the midst of the subnormal ones of `dtype`."""
    return 1e-310 if np.dtype(dtype) == np.float64 else 1e-39


def dtype_of(dtype: Any, value: float) -> Any:
    return np.dtype(dtype).type(value)
