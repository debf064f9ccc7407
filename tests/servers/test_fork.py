"""Processes that are forked, spawned or served from a fork server, before and after the parent computes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import RunPython

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

HEAD = """
import multiprocessing, os, sys, threading, warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import numpy as np
import attnlib as al
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of fork in a process that has threads
x = np.random.default_rng(0).standard_normal((1, 8, 200, 64)).astype("float32")
w = np.random.default_rng(1).standard_normal((300, 700)).astype("float32")

def compute(_=None):
    return al.attention(x, x, x, causal=True).tobytes() + al.matmul(w, w.T).tobytes()

def in_threads(_=None):
    with ThreadPoolExecutor(4) as pool:
        return set(pool.map(compute, range(8)))

def child(check):
    pid = os.fork()
    if pid == 0:
        good = False
        try:
            good = check()
        finally:
            os._exit(0 if good else 7)
    assert os.waitpid(pid, 0)[1] == 0
"""
MAIN = """
if __name__ == "__main__":
    al.set_num_threads(2)
"""


@pytest.mark.parametrize("used", [False, True], ids=["fresh", "used"])
def test_children_compute_in_parallel(used: bool, run_python: RunPython) -> None:
    """On the thread that forked, on new threads, in a child of the child, and in the parent afterwards."""
    code = f"""{HEAD}
al.set_num_threads(1)
expected = compute()
al.set_num_threads(2)
if {used}:
    assert compute() == expected

def check(generations=2):
    for _ in range(3):
        if compute() != expected or al.last_dispatch().threads != 2 or in_threads() != {{expected}}:
            return False
    if generations:
        child(lambda: check(generations - 1))
    return True

for _ in range(2):
    child(check)
assert check(0)
print("done")
"""
    assert run_python(code, timeout=100.0).stdout.strip() == "done"


def test_fork_while_other_threads_compute(run_python: RunPython) -> None:
    """Locks that other threads hold at that moment are not held in the child."""
    code = f"""{HEAD}
al.set_num_threads(2)
expected = compute()
stop = threading.Event()
def work():
    while not stop.is_set():
        compute()
        al.trim()
        al.pack_weight(w)
workers = [threading.Thread(target=work) for _ in range(3)]
for worker in workers:
    worker.start()
for _ in range(10):
    child(lambda: compute() == expected and al.trim() >= 0 and al.pack_weight(w).shape == w.shape)
stop.set()
for worker in workers:
    worker.join()
print("done")
"""
    assert run_python(code, timeout=100.0).stdout.strip() == "done"


def test_fork_from_another_thread(run_python: RunPython) -> None:
    code = f"""{HEAD}
al.set_num_threads(2)
expected = compute()
def work():
    assert compute() == expected
    child(lambda: compute() == expected and in_threads() == {{expected}})
worker = threading.Thread(target=work)
worker.start()
worker.join()
print("done")
"""
    assert run_python(code, timeout=100.0).stdout.strip() == "done"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_process_pools(method: str, tmp_path: Path, run_python: RunPython) -> None:
    """Worker processes with pools of threads in them, and packed weights sent to them."""
    body = f"""{HEAD}
def product(weight):
    return al.linear(w[:, :700], weight).tobytes()
{MAIN}
    expected = compute()
    weights = [al.pack_weight(w, dtype=name) for name in ("float32", "bfloat16", "int8", "int4")]
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert list(pool.map(in_threads, range(3))) == [{{expected}}] * 3
        assert list(pool.map(product, weights)) == [product(weight) for weight in weights]
    print("done")
"""
    # `spawn` and `forkserver` import the main program: it must be a file.
    program = tmp_path / "program.py"
    program.write_text(body, encoding="utf-8")
    run = f"[sys.executable, '-W', 'error', {str(program)!r}]"
    code = f"import subprocess, sys; sys.exit(subprocess.call({run}))"
    assert run_python(code, timeout=100.0).stdout.strip() == "done"


def test_joblib(run_python: RunPython) -> None:
    """Its loky processes and its threads."""
    pytest.importorskip("joblib")
    code = f"""{HEAD}
import joblib
al.set_num_threads(2)
expected = compute()
call = joblib.delayed(al.attention)
for backend in ("loky", "threading"):
    results = joblib.Parallel(2, backend=backend)(call(x, x, x, causal=True) for _ in range(4))
    assert all(expected.startswith(result.tobytes()) for result in results), backend
print("done")
"""
    assert run_python(code, timeout=100.0).stdout.strip() == "done"
