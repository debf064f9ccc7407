"""The Cython interface, through a consumer module that is compiled here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import attnlib as al

SOURCE = Path(__file__).with_name("cython_consumer.pyx")


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        pytest.skip(f"no Python.h in {headers}: a consumer cannot be compiled here (Debian: python3-dev)")
    build = tmp_path_factory.mktemp("cython_consumer")
    generated = build / "cython_consumer.cpp"
    target = build / f"cython_consumer{sysconfig.get_config_var('EXT_SUFFIX')}"
    package_parent = Path(al.__file__).parent.parent
    compiler = sysconfig.get_config_var("CXX") or "g++"
    for command in (
        [
            *(sys.executable, "-m", "cython", "-3", "--cplus", "-X", "freethreading_compatible=True"),
            *("-I", package_parent, "-o", generated, SOURCE),
        ],
        [
            *compiler.split(),
            "-O1",
            "-shared",
            "-fPIC",
            "-w",
            f"-I{headers}",
            generated,
            "-o",
            target,
        ],
    ):
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    spec = importlib.util.spec_from_file_location("cython_consumer", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_bits_as_the_python_functions(consumer: ModuleType, dtype: Any) -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((5, 33)).astype(dtype)
    b = rng.standard_normal((17, 33)).astype(dtype).T
    out = np.empty((5, 17), dtype)
    assert consumer.matmul(a, b, out) == 0
    np.testing.assert_array_equal(out, al.matmul(a, b))

    out = np.empty_like(a)
    assert consumer.softmax(a, out) == 0
    np.testing.assert_array_equal(out, al.softmax(a))

    query = rng.standard_normal((2, 4, 7, 16)).astype(dtype)
    key = rng.standard_normal((2, 2, 9, 16)).astype(dtype)
    value = rng.standard_normal((2, 2, 9, 8)).astype(dtype)
    out = np.empty((2, 4, 7, 8), dtype)
    assert consumer.attention(query, key, value, out, True, 0.0) == 0
    np.testing.assert_array_equal(out, al.attention(query, key, value, causal=True))
    assert consumer.attention(query, key, value, out, False, 0.5) == 0
    np.testing.assert_array_equal(out, al.attention(query, key, value, scale=0.5))


def test_bad_values_are_reported_not_raised(consumer: ModuleType) -> None:
    query = np.zeros((1, 3, 2, 4), np.float32)
    key = np.zeros((1, 2, 2, 4), np.float32)
    out = np.full((1, 3, 2, 4), 7, np.float32)
    assert consumer.attention(query, key, key, out, False, 0.0) == 1
    assert (out == 7).all()
