"""Failures inside parallel work reach the caller, and a fork finds no lock that nobody will open."""

from __future__ import annotations

import sys

import pytest
from processes import RunPython

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and /proc are Linux's")

MEMORY_ENDS = """
import resource
import numpy as np
import attnlib as al
al.set_num_threads(2)
rng = np.random.default_rng(0)
q = rng.standard_normal((2, 4, 300, 64), dtype=np.float32)
out = np.empty_like(q)
with al.num_threads(1):
    al.attention(q, q, q, out=out)  # the caller has scratch memory: what fails, fails in another thread
big = np.ones((1024, 1024), np.float32)
al.relu(big, out=big)  # the threads exist from here on, their scratch memory does not
assert al.last_dispatch().threads == 2
pages = int(open("/proc/self/statm").read().split()[0])
soft, hard = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 20), hard))
for _ in range(1000):  # a thread that comes too late on a busy machine finds no task, and wants no memory
    try:
        al.attention(q, q, q, out=out)
    except MemoryError:
        print("MemoryError")
        break
resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
al.attention(q, q, q, out=out)
assert al.last_dispatch().threads == 2
with al.num_threads(1):
    np.testing.assert_array_equal(al.attention(q, q, q), out)
print("done")
"""

FORK_WHILE_PACKING = """
import os, signal, threading
import numpy as np
import attnlib as al
weight = np.ones((128, 256), np.float32)
stop = threading.Event()

def pack():
    while not stop.is_set():
        al.pack_weight(weight)

threads = [threading.Thread(target=pack) for _ in range(4)]
for thread in threads:
    thread.start()
stuck = 0
for _ in range(100):
    child = os.fork()
    if child == 0:
        signal.alarm(5)
        al.pack_weight(weight)
        os._exit(0)
    stuck += os.waitpid(child, 0)[1] != 0
    if stuck:
        break
stop.set()
for thread in threads:
    thread.join()
print("stuck", stuck)
"""


def test_memory_that_ends_within_a_task(run_python: RunPython) -> None:
    assert run_python(MEMORY_ENDS).stdout.split() == ["MemoryError", "done"]


def test_a_fork_while_weights_are_packed(run_python: RunPython) -> None:
    # Python 3.12 and later warn of forks beside threads.
    code = "import warnings; warnings.simplefilter('ignore', DeprecationWarning)\n" + FORK_WHILE_PACKING
    assert run_python(code, env={"OMP_NUM_THREADS": "1"}).stdout.split() == ["stuck", "0"]
