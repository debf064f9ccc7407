"""The Cython interface, through consumer modules that are compiled here."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import oracle
import pytest
from arrays import epsilon
from tolerance import assert_within, attention_bounds, matmul_bound, softmax_bound

import attnlib as al

SOURCE = Path(__file__).with_name("cython_consumer.pyx")
PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cython.md"


def compiled(source: Path, build: Path) -> ModuleType:
    """Import the module of a .pyx file, compiled in the folder `build`."""
    headers = Path(sysconfig.get_path("include"))
    if not (headers / "Python.h").exists():
        pytest.skip(f"no Python.h in {headers}: a consumer cannot be compiled here (Debian: python3-dev)")
    generated = build / f"{source.stem}.cpp"
    target = build / f"{source.stem}{sysconfig.get_config_var('EXT_SUFFIX')}"
    package_parent = Path(al.__file__).parent.parent
    compiler = sysconfig.get_config_var("CXX") or "g++"
    for command in (
        [
            *(sys.executable, "-m", "cython", "-3", "--cplus", "-X", "freethreading_compatible=True"),
            *("-I", package_parent, "-o", generated, source),
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
    spec = importlib.util.spec_from_file_location(source.stem, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return compiled(SOURCE, tmp_path_factory.mktemp("cython_consumer"))


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[1, 2], ids=["1-thread", "2-threads"])
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    with al.num_threads(request.param):
        yield


def reversed_array(shape: tuple[int, ...], dtype: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """An array with contiguous rows, and all other strides negative and larger than they need be."""
    whole = rng.standard_normal((*(2 * extent for extent in shape[:-1]), shape[-1] + 3)).astype(dtype)
    return whole[(*(slice(None, None, -2) for _ in shape[:-1]), slice(1, -2))]


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("sizes", [(1, 1, 1), (5, 17, 33), (129, 255, 65)])
def test_matmul(
    consumer: ModuleType, sizes: tuple[int, int, int], dtype: Any, rng: np.random.Generator
) -> None:
    rows, columns, depth = sizes
    a, out = reversed_array((rows, depth), dtype, rng), reversed_array((rows, columns), dtype, rng)
    for b in (
        reversed_array((depth, columns), dtype, rng),
        reversed_array((columns, depth), dtype, rng).T[::-1],
    ):
        consumer.matmul(a, b, out)
        np.testing.assert_array_equal(out, al.matmul(a.copy(), b.copy()))
        assert_within(out, oracle.matmul(a, b), matmul_bound(a, b, epsilon(dtype)))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shape", [(1, 1), (7, 33), (1001, 65)])
def test_softmax(consumer: ModuleType, shape: tuple[int, int], dtype: Any, rng: np.random.Generator) -> None:
    x, out = reversed_array(shape, dtype, rng), reversed_array(shape, dtype, rng)
    consumer.softmax(x, out)
    np.testing.assert_array_equal(out, al.softmax(x.copy()))
    exact = oracle.softmax(x)
    assert_within(out, exact, softmax_bound(x, exact, -1, epsilon(dtype)))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (7, 9, 16, 8), (65, 129, 33, 17)])
def test_attention(
    consumer: ModuleType, sizes: tuple[int, int, int, int], dtype: Any, rng: np.random.Generator
) -> None:
    queries, keys, size, value_size = sizes
    query = reversed_array((2, 4, queries, size), dtype, rng)
    key, value = (reversed_array((2, 2, keys, width), dtype, rng) for width in (size, value_size))
    out = reversed_array((2, 4, queries, value_size), dtype, rng)
    for causal, scale in ((True, 0.0), (False, 0.5)):
        consumer.attention(query, key, value, out, causal, scale)
        options: dict[str, Any] = {"causal": causal, "scale": scale or None}
        np.testing.assert_array_equal(out, al.attention(query.copy(), key.copy(), value.copy(), **options))
        exact = oracle.attention(query, key, value, **options)
        assert_within(out, exact.output, attention_bounds(exact, size, dtype)[0])


def test_bad_values_have_a_status_of_their_own(consumer: ModuleType) -> None:
    query = np.zeros((1, 3, 2, 4), np.float32)
    key = np.zeros((1, 2, 2, 4), np.float32)
    out = np.full((1, 3, 2, 4), 7, np.float32)
    with pytest.raises(consumer.BadValue):
        consumer.attention(query, key, key, out, False, 0.0)
    assert (out == 7).all()


def test_example_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    """The code of docs/reference/cython.md is compiled, and called as the page does."""
    blocks = dict(re.findall(r"^```(cython|python)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S))
    source = tmp_path / "lookup.pyx"
    source.write_text(blocks["cython"], encoding="utf-8")
    module = compiled(source, tmp_path)
    monkeypatch.setitem(sys.modules, "lookup", module)
    names: dict[str, Any] = {}
    exec(blocks["python"], names)
    np.testing.assert_array_equal(names["weights"], al.softmax(names["queries"] @ names["keys"].T))

    queries, keys = (rng.standard_normal((rows, 33)).astype(np.float32) for rows in (7, 19))
    weights = np.empty((7, 19), np.float32)
    module.lookup(queries, keys, weights)
    np.testing.assert_array_equal(weights, al.softmax(al.matmul(queries, keys.T)))
    with pytest.raises(ValueError, match="shapes do not fit"):
        module.lookup(queries, keys[:, :32].copy(), weights)
