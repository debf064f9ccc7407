"""Other libraries with threads of their own in the same process, imported before or after attnlib.

A wheel carries a libgomp of its own, PyTorch and scikit-learn another one each. Which one our module is bound
to depends on what was imported first; results and the number of threads must not.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess

import pytest
from processes import RunPython

from attnlib import _core

# Each uses its threads, and compares what comes out with a result of NumPy on one thread.
NEIGHBOURS = {
    "numpy": """
def neighbour():
    assert np.allclose(np.linalg.solve(square, square @ ones), ones)
""",
    "torch": """
import torch
torch.set_num_threads(2)
tensor = torch.from_numpy(x)
def neighbour():
    assert np.allclose(torch.exp(tensor).sum(0).numpy(), np.exp(x).sum(0), rtol=1e-3)
    assert np.allclose((tensor @ tensor.T).numpy(), x @ x.T, atol=1e-3)
""",
    "sklearn": """
from sklearn.metrics import pairwise_distances_argmin
from sklearn.ensemble import HistGradientBoostingRegressor
def neighbour():
    far = ((x[:, None, :] - x[None, :50, :]) ** 2).sum(-1)
    assert (pairwise_distances_argmin(x, x[:50]) == far.argmin(1)).all()
    assert HistGradientBoostingRegressor(max_iter=2).fit(x, x[:, 0]).score(x, x[:, 0]) > 0.1
""",
}
OURS = """
import attnlib as al
weight = al.pack_weight(x)
def ours():
    product = al.linear(x, weight)
    assert al.last_dispatch().threads == 2
    assert np.allclose(product, x @ x.T, atol=1e-3)
    return product.tobytes()
"""
# The bits are the same alone, in turns, in threads at the same time, and in a child of fork.
PROGRAM = """
import os, warnings
import numpy as np
warnings.simplefilter("ignore")  # those of other libraries
rng = np.random.default_rng(0)
x = rng.standard_normal((600, 64)).astype(np.float32)
square, ones = rng.standard_normal((200, 200)) + 20 * np.eye(200), np.ones(200)
{imports}
al.set_num_threads(2)
expected = ours()
for _ in range(3):
    neighbour()
    assert ours() == expected

from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    calls = [pool.submit((ours, neighbour)[n % 2]) for n in range(16)]
    assert all(call.result() in (None, expected) for call in calls)

child = os.fork()
if child == 0:
    os._exit(0 if al.linear(x, weight).tobytes() == expected else 3)
assert os.waitpid(child, 0)[1] == 0
neighbour()
assert ours() == expected
print("well")
"""


@pytest.mark.parametrize("first", ["attnlib", "the other"])
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_beside_another_library(name: str, first: str, run_python: RunPython) -> None:
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"no {name} here")
    imports = [OURS, NEIGHBOURS[name]] if first == "attnlib" else [NEIGHBOURS[name], OURS]
    program = PROGRAM.format(imports="".join(imports))
    assert run_python(program, env={"OMP_NUM_THREADS": None}, timeout=120).stdout == "well\n"


@pytest.mark.parametrize("first", ["attnlib", "the other"])
@pytest.mark.parametrize("name", ["numpy", "torch", "sklearn"])
def test_threadpoolctl_sees_and_limits_it(name: str, first: str, run_python: RunPython) -> None:
    for needed in ("threadpoolctl", name):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"no {needed} here")
    imports = f"attnlib, {name}" if first == "attnlib" else f"{name}, attnlib"
    program = f"""
import os, re, warnings
warnings.simplefilter("ignore")
import {imports}
import numpy as np
import attnlib as al
from threadpoolctl import threadpool_info, threadpool_limits
al.set_num_threads(2)
x = np.ones((600, 64), np.float32)
def threads():
    al.linear(x, x)
    return al.last_dispatch().threads
# All that are loaded are seen, so the one that our module is bound to is.
seen = {{os.path.realpath(entry["filepath"]) for entry in threadpool_info() if entry["user_api"] == "openmp"}}
loaded = set(re.findall(r"/\\S*lib(?:gomp|omp|iomp)\\S*", open("/proc/self/maps").read()))
assert loaded and {{os.path.realpath(path) for path in loaded}} <= seen, (loaded, seen)
print(threads())
with threadpool_limits(1, user_api="openmp"):
    print(threads())
print(threads())
with threadpool_limits(1):
    al.set_num_threads(2)  # the last word counts
    print(threads())
"""
    assert run_python(program, env={"OMP_NUM_THREADS": "2"}).stdout.split() == ["2", "1", "2", "2"]


def test_no_function_is_bound_to_a_runtime_later_on() -> None:
    """Lazy binding could take some from one runtime and some from another: see bindings/CMakeLists.txt."""
    readelf = shutil.which("readelf")
    if readelf is None:
        pytest.skip("no readelf here")
    dynamic = subprocess.check_output([readelf, "--dynamic", _core.__file__], text=True)
    assert re.search(r"\(FLAGS(_1)?\).*\bNOW\b|BIND_NOW", dynamic), dynamic
