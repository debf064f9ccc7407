"""Threads that have nothing to do use no CPU, and do not get into each other's way."""

from __future__ import annotations

import os
import sys

import pytest
from processes import RunPython


@pytest.mark.parametrize("threads", [2, 7])
def test_idle(threads: int, run_python: RunPython) -> None:
    """A second after the last call: under one percent of a core, in the parent and in a forked child."""
    code = f"""
import os, threading, time
import numpy as np
import attnlib as al
al.set_num_threads({threads})
x = np.ones((1, 8, 256, 64), "float32")

def idle_share():
    for _ in range(5):
        al.attention(x, x, x)
    workers = [threading.Thread(target=al.attention, args=(x, x, x)) for _ in range(3)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    time.sleep(0.5)
    before = time.process_time(), time.monotonic()
    time.sleep(1.0)
    return (time.process_time() - before[0]) / (time.monotonic() - before[1])

print(idle_share(), flush=True)
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        print(idle_share(), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""
    # libgomp's workers would spin for ever if the user asked for it.
    quiet = "import warnings; warnings.simplefilter('ignore')\n"
    shares = run_python(quiet + code, env={"OMP_WAIT_POLICY": None}).stdout
    assert max(map(float, shares.split())) < 0.01, shares


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity calls")
@pytest.mark.parametrize("environment", [{}, {"OMP_NUM_THREADS": "9"}, {"OMP_THREAD_LIMIT": "2"}], ids=str)
def test_more_threads_than_cpus(environment: dict[str, str], run_python: RunPython) -> None:
    """Eight Python threads with eight threads each on one CPU come to their end, and to the same bits."""
    code = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import attnlib as al
x = np.random.default_rng(0).standard_normal((1, 4, 120, 64)).astype("float32")
w = np.random.default_rng(1).standard_normal((300, 200)).astype("float32")
def work(_):
    return al.attention(x, x, x).tobytes() + al.matmul(w, w.T).tobytes()
with al.num_threads(1):
    expected = work(0)
with al.num_threads(8), ThreadPoolExecutor(8) as pool:
    assert set(pool.map(work, range(80))) == {expected}
print("done")
"""
    assert run_python(code, env=environment, timeout=100.0).stdout.strip() == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="runs taskset")
def test_taskset(run_python: RunPython) -> None:
    code = """
import shutil, subprocess, sys
code = "import attnlib; print(attnlib.get_num_threads())"
tool = shutil.which("taskset")
print(subprocess.check_output([tool, "-c", "0", sys.executable, "-c", code], text=True) if tool else 1)
"""
    assert run_python(code, env={"OMP_NUM_THREADS": None}).stdout.strip() == "1"
