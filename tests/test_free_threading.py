"""Python without the GIL: importing attnlib leaves it off, and what threads share is safe to share.

The tests of threads in test_runtime.py hold here, too; these are about what the GIL might have protected.
"""

from __future__ import annotations

import pickle
import sysconfig
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from processes import RunPython

import attnlib as al

WITHOUT_GIL = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


@pytest.mark.skipif(not WITHOUT_GIL, reason="this Python has a GIL")
@pytest.mark.parametrize("module", ["attnlib", "attnlib.cython_api", "attnlib.nn", "attnlib.models"])
def test_the_gil_stays_off(module: str, run_python: RunPython) -> None:
    """A module that does not declare itself ready turns the GIL on, with a warning: here an error."""
    run_python(f"import sys, {module}; assert not sys._is_gil_enabled()")


def test_weights_shared_by_threads(rng: np.random.Generator) -> None:
    """Packed, unpacked, pickled, dropped and multiplied with by many threads that start at once."""
    weight = rng.standard_normal((96, 256)).astype(np.float32)
    x = rng.standard_normal((7, 256)).astype(np.float32)
    shared = {dtype: al.pack_weight(weight, dtype=dtype) for dtype in ("float32", "bfloat16", "int8", "int4")}
    expected = {dtype: al.linear(x, packed).tobytes() for dtype, packed in shared.items()}
    workers = 8
    barrier = threading.Barrier(workers)

    def work(seed: int) -> None:
        barrier.wait(timeout=60)
        for n in range(40):
            dtype = list(shared)[(seed + n) % len(shared)]
            copies = (
                shared[dtype],
                al.pack_weight(weight, dtype=dtype),
                pickle.loads(pickle.dumps(shared[dtype])),
            )
            for packed in copies:
                assert al.linear(x, packed).tobytes() == expected[dtype]
            assert shared[dtype].unpack().shape == weight.shape

    with ThreadPoolExecutor(workers) as pool:
        for done in [pool.submit(work, seed) for seed in range(workers)]:
            done.result(timeout=120)


def test_settings_changed_while_others_compute(rng: np.random.Generator) -> None:
    """The number of threads may change under a call; its bits may not, and neither may its record."""
    x = rng.standard_normal((200, 64)).astype(np.float32)
    expected = al.softmax(x).tobytes(), al.layer_norm(x).tobytes()
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for count in (1, 2, 3):
                al.set_num_threads(count)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(300):
            assert al.softmax(x).tobytes() == expected[0]
            record = al.last_dispatch()
            assert record is not None
            assert record.operation == "softmax"
            assert al.layer_norm(x).tobytes() == expected[1]
    finally:
        stop.set()
        changer.join()
