"""The memory of large results is kept from call to call: no two arrays share it, and it can be given back."""

from __future__ import annotations

import concurrent.futures
import itertools
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from processes import RunPython

import attnlib
from attnlib import _core

LARGE = (1024, 512)  # float32: 2 MB


def address(array: NDArray[Any]) -> int:
    return array.ctypes.data


def test_the_next_result_has_the_memory_of_the_one_before() -> None:
    """That is what it is for: the pages are there already."""
    x = np.zeros(LARGE, np.float32)
    _core.release_kept_results()
    first = attnlib.softmax(x)
    place = address(first)
    del first
    assert address(attnlib.softmax(x)) == place
    assert _core.release_kept_results() == 2 << 20
    assert _core.release_kept_results() == 0


@pytest.mark.parametrize("rows", [511, 512, 513, 640, 1000, 4000])
def test_results_in_use_share_nothing(rows: int) -> None:
    """Whatever was freed between, of whatever size: each array has memory of its own, and views keep it."""
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, 600), dtype=np.float32)
    wanted = attnlib.softmax(x).copy()
    held = []
    for step in range(24):
        # Every second one lives on as a view alone.
        first = step % 2
        held.append((first, attnlib.softmax(x[: rows - step])[first:]))
        if step % 3 == 0:
            held.pop(0)
    spans = sorted((address(array), array.nbytes) for _, array in held)
    assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(spans))
    for first, array in held:
        np.testing.assert_array_equal(array, wanted[first : first + len(array)])


def test_trim_gives_them_back() -> None:
    attnlib.softmax(np.zeros(LARGE, np.float32))
    attnlib.trim()
    assert _core.release_kept_results() == 0


def test_results_are_arrays_as_all_others() -> None:
    """Writable, aligned, contiguous; not resized in place, as no array that another object may see."""
    result = attnlib.softmax(np.zeros(LARGE, np.float32))
    assert result.flags.writeable
    assert result.flags.aligned
    assert result.flags.c_contiguous
    assert address(result) % 64 == 0
    with pytest.raises(ValueError, match="own its data"):
        result.resize(4, 4)


def test_no_more_than_64_mb_are_kept(run_python: RunPython) -> None:
    """Of sixteen results of 16 MB, four blocks stay."""
    program = """
import numpy as np
import attnlib
from attnlib import _core
x = np.zeros((4096, 1024), np.float32)
results = [attnlib.softmax(x) for _ in range(16)]
del results
assert _core.release_kept_results() == 64 << 20
large = attnlib.softmax(np.zeros((32768, 1024), np.float32))
del large
assert _core.release_kept_results() == 0
"""
    run_python(program)


def test_many_threads() -> None:
    """Threads take and give blocks at the same time; no result is another's."""
    arrays = [np.full((700 + 50 * i, 512), i, np.float32) for i in range(8)]

    def work(index: int) -> bool:
        return all(bool((attnlib.relu(arrays[index]) == index).all()) for _ in range(60))

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_after_a_fork(run_python: RunPython) -> None:
    """A child has a copy of what was kept; a thread of its parent that was taking some stops nobody."""
    program = """
import os
import threading
import numpy as np
import attnlib
x = np.ones((2048, 512), np.float32)
stop = threading.Event()

def churn():
    while not stop.is_set():
        attnlib.softmax(x)

threads = [threading.Thread(target=churn, daemon=True) for _ in range(2)]  # a failure ends it at once
for thread in threads:
    thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        os._exit(0 if np.allclose(attnlib.softmax(x), 1 / 512) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
stop.set()
for thread in threads:
    thread.join()
"""
    run_python(program)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_resident_memory_stays_flat(run_python: RunPython) -> None:
    """Results of ever changing sizes: at most what may be kept, and one in use."""
    program = """
import numpy as np
import attnlib
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
x = np.ones((8192, 512), np.float32)
attnlib.softmax(x)
before = resident()
rng = np.random.default_rng(0)
for rows in rng.integers(512, 8192, 400):
    attnlib.softmax(x[:rows])
assert resident() - before < (64 + 20) << 20, resident() - before
"""
    run_python(program)
