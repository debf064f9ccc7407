"""Every rung that this CPU has passes the whole operation suite; a rung it has is never skipped."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from processes import RunPython

import attnlib as al

TESTS = Path(__file__).parent
RANK = ("baseline", "avx2", "avx512", "avx512_vnni_bf16", "avx512_amx", "neon_dotprod")
# What a rung wants of the CPU, in the names of Linux's /proc/cpuinfo (which lists what the kernel enabled,
# too).
V2 = {"cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"}
V3 = V2 | {"abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"}
V4 = V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
VNNI_BF16 = V4 | {"avx512_vnni", "avx512_bf16"}
AMX = VNNI_BF16 | {"amx_tile", "amx_int8", "amx_bf16"}
FLAGS = (
    {"baseline": {"asimd"}, "neon_dotprod": {"asimddp"}}
    if platform.machine() == "aarch64"
    else {"baseline": V2, "avx2": V3, "avx512": V4, "avx512_vnni_bf16": VNNI_BF16, "avx512_amx": AMX}
)


def cpu_flags() -> set[str]:
    """The flags of the first CPU; empty where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return set(line.group(1).split()) if line else set()


@pytest.mark.skipif(not cpu_flags(), reason="/proc/cpuinfo lists no flags here")
def test_all_rungs_of_this_cpu_are_available() -> None:
    flags = cpu_flags()
    expected = [rung for rung, wanted in FLAGS.items() if wanted <= flags]
    assert sorted(al.available_isas()) == sorted(expected)


def test_default_is_the_best(run_python: RunPython) -> None:
    result = run_python("import attnlib as al; print(al.isa())", env={"ATTNLIB_ISA": None})
    best = max(al.available_isas(), key=lambda rung: RANK.index(rung) if rung in RANK else len(RANK))
    assert result.stdout.strip() == best


@pytest.mark.parametrize("rung", al.available_isas())
def test_forcing(rung: str, run_python: RunPython) -> None:
    result = run_python("import attnlib as al; print(al.isa())", env={"ATTNLIB_ISA": rung})
    assert result.stdout.strip() == rung


@pytest.mark.skipif("avx512_amx" not in al.available_isas(), reason="this CPU has no AMX")
def test_tiles_that_the_system_refuses(run_python: RunPython) -> None:
    """Linux gives none to a process whose stack for signals could not hold them: the next rung serves."""
    small_stack = (
        "import ctypes\n"
        "class Stack(ctypes.Structure):\n"
        "    _fields_ = [('pointer', ctypes.c_void_p), ('flags', ctypes.c_int), ('size', ctypes.c_size_t)]\n"
        "memory = ctypes.create_string_buffer(8192)\n"
        "stack = Stack(ctypes.addressof(memory), 0, 8192)\n"
        "assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0\n"
    )
    code = small_stack + "import attnlib as al\nprint(al.isa())"
    assert run_python(code, env={"ATTNLIB_ISA": None}).stdout.strip() == "avx512_vnni_bf16"
    refused = run_python(code, env={"ATTNLIB_ISA": "avx512_amx"}, check=False)
    assert refused.returncode == 1
    assert "does not support it" in refused.stderr


@pytest.mark.skipif("avx512_amx" not in al.available_isas(), reason="this CPU has no AMX")
@pytest.mark.parametrize(("rung", "asked"), [("avx512_amx", True), ("avx512_vnni_bf16", False), (None, True)])
def test_tiles_are_asked_for_where_they_are_used(
    rung: str | None, asked: bool, run_python: RunPython
) -> None:
    """A process that may use them has larger frames for signals."""
    code = (
        "import ctypes, attnlib\n"
        "allowed = ctypes.c_uint64()\n"
        "get_permissions, arch_prctl = 0x1022, 158\n"
        "assert ctypes.CDLL(None).syscall(arch_prctl, get_permissions, ctypes.byref(allowed)) == 0\n"
        "print(allowed.value >> 18 & 1)"
    )
    assert run_python(code, env={"ATTNLIB_ISA": rung}).stdout.strip() == str(int(asked))


@pytest.mark.parametrize("name", ["avx9000", "AVX2", "avx2,avx512", " "])
def test_unknown_rung_is_an_import_error(name: str, run_python: RunPython) -> None:
    """And the message says what was asked for and what there is."""
    result = run_python("import attnlib", env={"ATTNLIB_ISA": name}, check=False)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError")
    assert "ATTNLIB_ISA" in last
    assert name in last
    assert "baseline" in last


def test_rung_of_another_cpu_is_an_import_error(run_python: RunPython) -> None:
    """An ImportError, where there would be a SIGILL."""
    for name in set(RANK) - set(al.available_isas()):
        result = run_python("import attnlib", env={"ATTNLIB_ISA": name}, check=False)
        assert result.returncode == 1
        last = result.stderr.strip().splitlines()[-1]
        assert last.startswith("ImportError")
        assert name in last


def test_integer_results_agree_between_rungs(run_python: RunPython) -> None:
    """Sums without rounding are the same everywhere: a cheap check that a forced rung does compute."""
    code = (
        "import attnlib as al, numpy as np\n"
        "a = (np.arange(35 * 70).reshape(35, 70) % 7 - 3).astype('float32')\n"
        "print(al.matmul(a, a.T).tobytes().hex()[:4000], al.relu(a).tobytes().hex()[:4000])"
    )
    outputs = {run_python(code, env={"ATTNLIB_ISA": rung}).stdout for rung in al.available_isas()}
    assert len(outputs) == 1


def test_packed_weights_travel_between_rungs(run_python: RunPython, tmp_path: Path) -> None:
    """A pickle made on one rung loads on any other."""
    head = (
        "import attnlib as al, numpy as np, pickle, pathlib\n"
        "weight = (np.arange(50 * 33).reshape(50, 33) % 9 - 4).astype('float32')\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
    )
    for rung in al.available_isas():
        code = "(folder / (al.isa() + '.pickle')).write_bytes(pickle.dumps(al.pack_weight(weight)))"
        run_python(head + code, env={"ATTNLIB_ISA": rung})
    code = (
        f"paths = list(folder.glob('*.pickle')); assert len(paths) == {len(al.available_isas())}\n"
        "x = (np.arange(3 * 33).reshape(3, 33) % 5).astype('float32')\n"
        "for path in paths:\n"
        "    packed = pickle.loads(path.read_bytes())\n"
        "    assert np.array_equal(packed.unpack(), weight)\n"
        "    assert np.array_equal(al.linear(x, packed), x @ weight.T)\n"
    )
    for rung in al.available_isas():
        run_python(head + code, env={"ATTNLIB_ISA": rung})


OTHER_RUNGS = [rung for rung in al.available_isas() if rung != al.isa()]


def run_operations(rung: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the operation tests in a process that runs on this rung."""
    suite = [TESTS / "ops", TESTS / "test_determinism.py", TESTS / "test_properties.py"]
    return subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "--maxfail=20", "-p", "no:cacheprovider"),
            *map(str, suite),
        ],
        cwd=folder,
        # Other tests run beside it: threads that have nothing to do sleep.
        env={**os.environ, "ATTNLIB_ISA": rung, "OMP_WAIT_POLICY": "passive", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def runs(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Future[subprocess.CompletedProcess[str]]]]:
    """Two rungs at a time: most tests keep one CPU busy."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {rung: pool.submit(run_operations, rung, tmp_path_factory.mktemp(rung)) for rung in OTHER_RUNGS}


@pytest.mark.parametrize("rung", OTHER_RUNGS)
def test_operations(rung: str, runs: dict[str, Future[subprocess.CompletedProcess[str]]]) -> None:
    """The operation tests once more, in a process that runs on another rung."""
    result = runs[rung].result()
    assert result.returncode == 0, f"on rung {rung}:\n{result.stdout[-8000:]}\n{result.stderr[-2000:]}"
    assert "skipped" not in result.stdout.splitlines()[-1]
