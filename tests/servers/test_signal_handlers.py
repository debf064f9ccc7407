"""Signal handlers that Python runs in the middle of a long call may call attnlib themselves."""

from __future__ import annotations

import sys

import pytest
from processes import RunPython

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and takes SIGALRM for a timer")

# The timer goes off in a call that takes some tenths of a second, whatever the machine and the build.
HEAD = """
import os, signal, sys, time
import numpy as np
import attnlib as al

rng = np.random.default_rng(0)
row = rng.standard_normal((1, 1, 64), dtype=np.float32)
keys = np.broadcast_to(row, (1, 200_000, 64))
a = rng.standard_normal((400, 400), dtype=np.float32)
weight = al.pack_weight(a, dtype="int8")
ran = []

def long_call(handler, interval=0.0):
    seconds, count = 0.0, 50
    while seconds < 0.4:
        count *= 2
        queries = rng.standard_normal((1, count, 64), dtype=np.float32)
        began = time.monotonic()
        al.attention(queries, keys, keys)
        seconds = time.monotonic() - began
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1, interval)
    result = al.attention(queries, keys, keys)
    assert ran
    np.testing.assert_allclose(result, np.broadcast_to(row, result.shape), rtol=1e-3)

def in_child(work):
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        finally:
            sys.stderr.flush()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, status
"""


@pytest.mark.parametrize("where", ["work()", "in_child(work)"])
@pytest.mark.parametrize("threads", [1, 2])
def test_an_operation_in_a_handler(threads: int, where: str, run_python: RunPython) -> None:
    code = """
expected = al.matmul(a, a).tobytes()

def work():
    def handler(*_):
        out = np.full((400, 400), 7, np.float32)
        al.matmul(a, a, out=out)
        ran.append(out.tobytes() == expected)
    long_call(handler)
    assert all(ran), "the handler's product is wrong"
"""
    run_python(f"{HEAD}al.set_num_threads({threads})\n{code}\n{where}\n", timeout=120.0)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_holds_the_interpreter_in_a_handler(threads: int, run_python: RunPython) -> None:
    """Rows of a packed weight are taken without giving the GIL away."""
    code = """
def handler(*_):
    ran.append(weight.rows(100, 300).shape)
long_call(handler)
assert ran[0] == (200, 400)
"""
    run_python(f"{HEAD}al.set_num_threads({threads})\n{code}", timeout=120.0)


@pytest.mark.parametrize("where", ["work()", "in_child(work)"])
def test_handlers_wait_while_an_exception_is_on_its_way(where: str, run_python: RunPython) -> None:
    """Python code that ran with the first handler's exception set would be a SystemError."""
    code = """
def handler(*_):
    ran.append(len("x"))
    if len(ran) == 1:
        raise KeyboardInterrupt("the first")

def work():
    try:
        long_call(handler, interval=0.03)
    except KeyboardInterrupt as error:
        assert str(error) == "the first"
    else:
        raise AssertionError("came to its end")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
"""
    run_python(f"{HEAD}al.set_num_threads(2)\n{code}\n{where}\n", timeout=120.0)
