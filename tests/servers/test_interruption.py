"""Ctrl-C ends a long call of the main thread; the next call is as if nothing had been."""

from __future__ import annotations

import sys

import pytest
from processes import RunPython

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to itself")

# SIGINT comes a tenth of a second after a call has begun that would take many seconds. How late it is noticed
# is not judged, the machine may be busy: what is judged is that the call does not come to its end.
HEAD = """
import os, signal, threading, time
import numpy as np
import attnlib as al

# As a terminal has it: a shell starts what is in its background with SIGINT ignored, and Python leaves it so.
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupted(call):
    sent = []
    def send():
        time.sleep(0.1)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=send, daemon=True).start()
    try:
        call()
    except KeyboardInterrupt:
        print(f"{time.monotonic() - sent[0]:.3f} s after the signal")
        return
    raise SystemExit("came to its end")

def many(row, count):  # the same memory again and again: long calls that take none
    return np.lib.stride_tricks.as_strided(row, (count, *row.shape), (0, *row.strides))

small = np.random.default_rng(0).standard_normal((1, 4, 200, 64)).astype("float32")
expected = al.attention(small, small, small, causal=True).tobytes()
block = np.ones((1000, 4096), "float32")
"""
CALLS = {
    "attention": "q = np.ones((1, 200000, 64), 'float32'); interrupted(lambda: al.attention(q, q, q))",
    "decoding": "cache = many(np.ones((8, 4000, 64), 'float32'), 50000)\n"
    "interrupted(lambda: al.attention(cache[:, :, :1], cache, cache))",
    "matmul": "a = np.ones((7000, 7000), 'float32'); interrupted(lambda: al.matmul(a, a))",
    "linear": "w = al.pack_weight(np.ones((4096, 4096), 'float32'), dtype='bfloat16')\n"
    "interrupted(lambda: al.linear(many(block, 1000), w, out=many(np.empty_like(block), 1000)))",
    "softmax": "interrupted(lambda: al.softmax(many(block, 50000), out=many(np.empty_like(block), 50000)))",
    "gelu": "interrupted(lambda: al.gelu(many(block, 50000), out=many(np.empty_like(block), 50000)))",
    "layer_norm": "out = many(np.empty_like(block), 50000)\n"
    "interrupted(lambda: al.layer_norm(many(block, 50000), out=out))",
    "lstm": "w = al.pack_weight(np.ones((2048, 512), 'float32')); row = np.ones((1, 2048), 'float32')\n"
    "p = many(row[0], 5_000_000)[None]; h = np.ones((1, 512), 'float32')\n"
    "interrupted(lambda: al.functional.lstm_steps(p, w, h, h.copy()))",
    "pack_weight": "w = many(np.ones((4096,), 'float32'), 60000)\n"
    "interrupted(lambda: al.pack_weight(w, dtype='int8'))",
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("call", CALLS)
def test_keyboard_interrupt(call: str, threads: int, run_python: RunPython) -> None:
    code = f"{HEAD}al.set_num_threads({threads})\n{CALLS[call]}\n"
    code += "assert al.attention(small, small, small, causal=True).tobytes() == expected\n"
    assert "after the signal" in run_python(code, timeout=60.0).stdout
