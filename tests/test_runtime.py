"""Threads, affinity, fork, concurrency, the rung, show_config."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from arrays import normal
from attention_check import make_qkv
from processes import RunPython

import attnlib as al

PRINT_THREADS = "import attnlib as al; print(al.get_num_threads())"
WITHOUT_OMP: dict[str, str | None] = {"OMP_NUM_THREADS": None, "OMP_THREAD_LIMIT": None, "OMP_DYNAMIC": None}


@pytest.fixture(autouse=True)
def restore_threads() -> Iterator[None]:
    before = al.get_num_threads()
    yield
    al.set_num_threads(before)


def test_set_and_get() -> None:
    for count in (1, 2, 3, 7, np.int64(2)):
        al.set_num_threads(count)
        assert al.get_num_threads() == count


def test_context_manager() -> None:
    al.set_num_threads(2)
    with al.num_threads(3):
        assert al.get_num_threads() == 3
        with al.num_threads(1):
            assert al.get_num_threads() == 1
        assert al.get_num_threads() == 3
    assert al.get_num_threads() == 2


def test_context_manager_restores_after_an_error() -> None:
    al.set_num_threads(2)
    with pytest.raises(RuntimeError, match="inside"), al.num_threads(3):
        raise RuntimeError("inside")
    assert al.get_num_threads() == 2


@pytest.mark.parametrize("count", [0, -1, -(2**31), 2**40])
def test_impossible_counts(count: int) -> None:
    before = al.get_num_threads()
    with pytest.raises(ValueError, match=rf"(?s)^set_num_threads.*{count}"):
        al.set_num_threads(count)
    with pytest.raises(ValueError, match=str(count)), al.num_threads(count):
        pass
    assert al.get_num_threads() == before


@pytest.mark.parametrize("count", [1.5, "2", None, [1]], ids=repr)
def test_counts_of_another_type(count: object) -> None:
    before = al.get_num_threads()
    with pytest.raises(TypeError):
        al.set_num_threads(count)  # type: ignore[arg-type]
    with pytest.raises(TypeError), al.num_threads(count):  # type: ignore[arg-type]
        pass
    assert al.get_num_threads() == before


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity calls")
def test_default_honours_affinity(run_python: RunPython) -> None:
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    assert run_python(one + PRINT_THREADS, env=WITHOUT_OMP).stdout.strip() == "1"
    default = int(run_python(PRINT_THREADS, env=WITHOUT_OMP).stdout)
    assert 1 <= default <= len(os.sched_getaffinity(0))


def test_default_honours_the_cgroup_quota(run_python: RunPython) -> None:
    """Where this process has a quota of CPUs, the default is not above it (rounded up)."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        quota, period = "max", "1"
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = available if quota == "max" else min(available, max(1, -(-int(quota) // int(period))))
    assert 1 <= int(run_python(PRINT_THREADS, env=WITHOUT_OMP).stdout) <= limit


def test_omp_num_threads_wins(run_python: RunPython) -> None:
    assert run_python(PRINT_THREADS, env={"OMP_NUM_THREADS": "3"}).stdout.strip() == "3"
    if hasattr(os, "sched_setaffinity"):
        one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        assert run_python(one + PRINT_THREADS, env={"OMP_NUM_THREADS": "3"}).stdout.strip() == "3"


@pytest.mark.parametrize("value", ["", "abc", "0", "-2"])
def test_nonsense_in_omp_num_threads_is_not_fatal(value: str, run_python: RunPython) -> None:
    """As in OpenMP itself, what is no count is ignored."""
    assert int(run_python(PRINT_THREADS, env={"OMP_NUM_THREADS": value}).stdout) >= 1


def test_isa() -> None:
    available = al.available_isas()
    assert al.isa() in available
    assert "baseline" in available
    assert len(set(available)) == len(available)
    assert all(isinstance(rung, str) for rung in available)


def test_show_config(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints, as np.show_config() does, and returns nothing."""
    assert al.show_config() is None
    text = capsys.readouterr().out
    assert al.__version__ in text
    assert np.__version__ in text
    for word in (*al.available_isas(), al.isa(), "thread", "openmp", "cuda", "compiler"):
        assert word.lower() in text.lower(), word


def test_many_python_threads(rng: np.random.Generator) -> None:
    """Concurrent calls share nothing: each gets the bits it gets alone."""
    arrays = [make_qkv(rng, (1,), 4, 2, n, n + 20, 16) for n in (1, 30, 70, 150)]
    x, weight = normal(rng, (300, 200), np.float32), normal(rng, (150, 200), np.float32)
    packed = al.pack_weight(weight)
    expected = [al.attention(*qkv, causal=True).tobytes() for qkv in arrays]
    expected_linear = al.linear(x, packed, activation="gelu").tobytes()

    def work(seed: int) -> bool:
        good = True
        for n in range(25):
            index = (seed + n) % len(arrays)
            good &= al.attention(*arrays[index], causal=True).tobytes() == expected[index]
            good &= al.linear(x, packed, activation="gelu").tobytes() == expected_linear
        return good

    for count in (1, 2):
        with al.num_threads(count), ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(8)))


def test_errors_in_many_python_threads() -> None:
    """An exception belongs to the call that caused it."""
    good, bad = np.ones((4, 4), np.float32), np.ones((3, 5), np.float32)
    outcomes: list[bool] = []

    def work(fails: bool) -> None:
        for _ in range(200):
            try:
                al.matmul(good, bad if fails else good)
                outcomes.append(not fails)
            except ValueError:
                outcomes.append(fails)

    workers = [threading.Thread(target=work, args=(n % 2 == 0,)) for n in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(outcomes) == 1200
    assert all(outcomes)


def test_the_gil_is_released(rng: np.random.Generator) -> None:
    """Another Python thread counts on while an operation computes."""
    query, key, value = make_qkv(rng, (1,), 4, 4, 1000, 1000, 64)
    counter, stop = [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counter[0] += 1
            time.sleep(0)  # gives the GIL back at once

    worker = threading.Thread(target=count)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000.0)  # the main thread keeps the GIL unless it gives it away of its own accord
    try:
        worker.start()
        before = counter[0]
        for _ in range(200):  # on a busy machine the counter may be given no core during the first calls
            al.attention(query, key, value)
            if counter[0] > before:
                break
        counted = counter[0] - before
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        worker.join()
    assert counted > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_fork_after_use(threads: int, run_python: RunPython) -> None:
    """The child of a process that has computed in parallel computes the same, and does not hang."""
    code = f"""
import os, warnings
import numpy as np
import attnlib as al
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of fork in a process that has threads
al.set_num_threads({threads})
x = np.random.default_rng(0).standard_normal((1, 8, 300, 64)).astype("float32")
w = np.random.default_rng(1).standard_normal((512, 2048)).astype("float32")
expected = al.attention(x, x, x), al.matmul(w, w.T)
for _ in range(3):
    child = os.fork()
    if child == 0:
        same = al.get_num_threads() == {threads}
        for _ in range(3):
            same &= bool(np.array_equal(al.attention(x, x, x), expected[0]))
            same &= bool(np.array_equal(al.matmul(w, w.T), expected[1]))
        os._exit(0 if same else 7)
    assert os.waitpid(child, 0)[1] == 0
    assert np.array_equal(al.matmul(w, w.T), expected[1])
print("done")
"""
    assert run_python(code, timeout=120.0).stdout.strip() == "done"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_multiprocessing_pool(run_python: RunPython) -> None:
    """The way that fork is met in practice."""
    code = """
import multiprocessing, warnings
import numpy as np
import attnlib as al
warnings.simplefilter("ignore", DeprecationWarning)
x = np.random.default_rng(0).standard_normal((1, 8, 200, 64)).astype("float32")
def work(n):
    return al.attention(x, x, x, causal=bool(n % 2)).tobytes()
if __name__ == "__main__":
    expected = [work(n) for n in range(4)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(work, range(4)) == expected
    print("done")
"""
    assert run_python(code, timeout=120.0).stdout.strip() == "done"


def test_use_at_interpreter_exit(run_python: RunPython) -> None:
    """Daemon threads in the middle of a call, and calls from atexit, do not crash the interpreter."""
    code = """
import atexit, threading
import numpy as np
import attnlib as al
x = np.ones((1, 4, 200, 64), "float32")
def work():
    while True:
        al.attention(x, x, x)
threading.Thread(target=work, daemon=True).start()
atexit.register(lambda: print(float(al.attention(x, x, x).max())))
"""
    assert float(run_python(code).stdout) == pytest.approx(1.0)
