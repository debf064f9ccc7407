"""Memory stays flat over many calls of changing shapes, and trim() gives back what is kept."""

from __future__ import annotations

import sys

import pytest
from processes import RunPython

import attnlib as al

HEAD = """
import threading
import numpy as np
import attnlib as al

def resident():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))

weight = al.pack_weight(np.ones((2048, 512), "float32"), dtype="int8")
x = np.ones((2000, 512), "float32")
outs = np.ones((4, 2000, 2048), "float32")  # one for each thread
"""


def test_returns_bytes() -> None:
    assert al.trim() >= 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmRSS from /proc")
def test_gives_scratch_back(run_python: RunPython) -> None:
    """Of this thread and of the others, that of threads that have ended included; and the next call works."""
    code = f"""{HEAD}
al.set_num_threads(1)
al.linear(x[:1], weight, out=outs[0, :1])
al.trim()
before = resident()
barrier = threading.Barrier(4)
def work(out):
    al.linear(x, weight, out=out)  # takes a megabyte of scratch
    barrier.wait()
    barrier.wait()
workers = [threading.Thread(target=work, args=[out], daemon=True) for out in outs[1:]]
for worker in workers: worker.start()
barrier.wait()
expected = al.linear(x, weight, out=outs[0]).copy()
kept = resident() - before
freed = al.trim()
left = resident() - before - expected.nbytes
assert freed >= 4 * 2**20, (kept, freed)
assert left < 2 * 2**20, (kept, freed, left)
barrier.wait()
for worker in workers: worker.join()
assert np.array_equal(al.linear(x, weight, out=outs[1]), expected)
print("done")
"""
    assert run_python(code).stdout.strip() == "done"


def test_while_other_threads_compute(run_python: RunPython) -> None:
    """Two threads trim all the time, four compute: the bits are right."""
    code = f"""{HEAD}
al.set_num_threads(2)
x = x[:50]
expected = al.linear(x, weight).tobytes()
stop, good = threading.Event(), []
def trim():
    while not stop.is_set():
        assert al.trim() >= 0
def work():
    good.append(all(al.linear(x, weight).tobytes() == expected for _ in range(15)))
trimmers = [threading.Thread(target=trim) for _ in range(2)]
workers = [threading.Thread(target=work) for _ in range(4)]
for thread in trimmers + workers: thread.start()
for thread in workers: thread.join()
stop.set()
for thread in trimmers: thread.join()
assert good == [True] * 4
print("done")
"""
    assert run_python(code, timeout=100.0).stdout.strip() == "done"


@pytest.mark.skipif(sys.platform != "linux", reason="reads VmRSS from /proc")
def test_flat(run_python: RunPython) -> None:
    """Twenty thousand calls; `tools/flat_memory.py` makes a million."""
    code = """
import runpy, sys
sys.argv = ["flat_memory.py", "--calls", "20000"]
"""
    from pathlib import Path

    tool = Path(__file__).parents[2] / "tools" / "flat_memory.py"
    code += f"runpy.run_path({str(tool)!r}, run_name='__main__')\n"
    assert "flat" in run_python(code, timeout=100.0).stdout
