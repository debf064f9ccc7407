"""Attention never holds a score matrix, nor copies what it can read in place: the process's peak shows it."""

from __future__ import annotations

import sys

import pytest
from processes import RunPython

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads VmHWM from /proc")

# ru_maxrss would inherit the peak of the process that started this one; VmHWM begins anew at exec. Ballast
# raises the resident size to the peak so far, so that any further allocation that is touched raises the peak.
HEAD = """
import numpy as np
import attnlib as al

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))

def growth(function):
    ballast = np.ones(max(status("VmHWM") - status("VmRSS"), 0) + 2**20, np.uint8)
    before = status("VmHWM")
    function()
    grown = status("VmHWM") - before
    assert ballast[0] == 1
    return grown

def touched(shape, dtype="float32"):
    array = np.empty(shape, dtype)
    array[...] = np.resize(np.random.default_rng(0).standard_normal(4099), shape)
    return array

small = touched((1, 1, 300, 64))
for _ in range(2):
    al.attention(small, small, small, causal=True)
"""


def grown(run_python: RunPython, body: str) -> int:
    """Bytes by which `body`'s call of growth() raised the peak."""
    return int(run_python(HEAD + body).stdout)


def test_the_measurement_sees_memory(run_python: RunPython) -> None:
    """Forty megabytes taken and given back are seen."""
    found = grown(run_python, "print(growth(lambda: np.ones(40 * 2**20, np.uint8)))")
    assert 38 * 2**20 < found < 50 * 2**20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_long_sequence(dtype: str, run_python: RunPython) -> None:
    """B1 H1 S32768 D64: less than 16 MB beyond the output, where the scores alone would take 4 GB."""
    length = 32768 if dtype == "float32" else 16384
    body = f"""
import ml_dtypes
q, k, v, out = (touched((1, 1, {length}, 64), {dtype!r}) for _ in range(4))
print(growth(lambda: al.attention(q, k, v, out=out)))
"""
    assert grown(run_python, body) < 16 * 2**20


def test_output_alone_is_allocated(run_python: RunPython) -> None:
    """Without out=, the output comes on top, and the lse."""
    body = """
q, k, v = (touched((1, 2, 8192, 64)) for _ in range(3))
print(growth(lambda: al.attention(q, k, v, causal=True, return_lse=True)))
"""
    assert grown(run_python, body) < 16 * 2**20 + 4 * 2 * 8192 * 65


@pytest.mark.parametrize("option", ["mask", "bias"])
def test_broadcast_options_are_not_materialised(option: str, run_python: RunPython) -> None:
    """A mask or bias of one row stays one row: whole it would take 64 or 256 MB."""
    row = "np.ones((1, 1, 1, 8192), bool)" if option == "mask" else "touched((1, 1, 1, 8192))"
    body = f"""
q, k, v, out = (touched((1, 1, 8192, 64)) for _ in range(4))
row = {row}
print(growth(lambda: al.attention(q, k, v, {option}=row, out=out)))
full = np.broadcast_to(row, (1, 1, 8192, 8192))
again = growth(lambda: al.attention(q, k, v, {option}=full, out=out))
assert again < 16 * 2**20, again
"""
    assert grown(run_python, body) < 16 * 2**20


def test_strided_inputs_are_read_in_place(run_python: RunPython) -> None:
    """Heads-last views, a fused QKV projection and keys shared by the batch need no copy (of 32 MB each)."""
    body = """
fused = touched((1, 8192, 3, 16, 64))
q, k, v = (fused[:, :, n].swapaxes(1, 2) for n in range(3))
out = touched((1, 8192, 16, 64)).swapaxes(1, 2)
key_rows = q[:, :, :32]
first = growth(lambda: al.attention(key_rows, k, v, out=out[:, :, :32]))
shared = np.broadcast_to(k, (8, 16, 8192, 64))
queries = np.broadcast_to(q[:, :, :1], (8, 16, 1, 64))
second = growth(lambda: al.attention(queries, shared, shared))
print(max(first, second))
"""
    assert grown(run_python, body) < 16 * 2**20


def test_linear_on_a_view(run_python: RunPython) -> None:
    """A slice of rows and columns of a large array is read in place, and so is a broadcast bias."""
    body = """
x = touched((20000, 1024))[:, 256:512]
weight = al.pack_weight(touched((256, 256)))
out = touched((20000, 256))
print(growth(lambda: al.linear(x, weight, activation="gelu", out=out)))
"""
    assert grown(run_python, body) < 16 * 2**20


def test_many_calls_do_not_leak(run_python: RunPython) -> None:
    """Ten thousand calls, some of which fail, leave the resident size where it was."""
    body = """
q = touched((1, 4, 40, 64))
def many(count):
    for n in range(count):
        al.attention(q, q, q, causal=True, return_lse=True)
        al.linear(q, q[0, 0])
        al.layer_norm(q)
        try:
            al.attention(q, q[..., :63], q)
        except ValueError:
            pass
many(200)
before = status("VmRSS")
many(2500)
print(status("VmRSS") - before)
"""
    assert grown(run_python, body) < 2 * 2**20
