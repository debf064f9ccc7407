"""Run the tests on CPUs that this machine does not have, emulated by qemu's user mode.

    python tools/emulated_cpus.py                          # which rung each CPU takes: seconds
    python tools/emulated_cpus.py tests/ops                # and these tests on each: six minutes a CPU
    python tools/emulated_cpus.py --cpu Haswell tests      # the whole suite: hours

Wants Debian's qemu-user-static (7.2 or later, which has AVX2; none has AVX-512) and the native modules in
attnlib/. The interpreter itself runs under qemu, and so do the processes that tests start: `sys.executable`
is a script that enters qemu again. /proc/cpuinfo is still the host's, so the test that compares with it is
left out: the rungs are compared with those in `CPUS` instead. An instruction that the CPU lacks ends the run
by SIGILL.

qemu (7.2, and 10.0 still) takes subnormal float16 numbers for zero where MXCSR says so of float32; processors
do not, in F16C's conversions. Where these are used, the tests named float16 run apart from the others, on a
copy of the package whose native module leaves MXCSR's FTZ and DAZ alone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
# qemu takes 200 ns for a multiply-add of doubles: NumPy, the tests' oracle, is 20 times as fast without them.
# Its second thread, and OpenMP's, would spin for nothing.
FAST_ORACLE = {
    "OPENBLAS_CORETYPE": "Nehalem",
    "OPENBLAS_NUM_THREADS": "1",
    "NPY_DISABLE_CPU_FEATURES": "X86_V3",
    "OMP_WAIT_POLICY": "passive",
}
HOST_CPU_TEST = "tests/test_rungs.py::test_all_rungs_of_this_cpu_are_available"
# CPU models of qemu and the rungs that they must have. The last two lack what the operating system must say
# (xsave), or one instruction of those that x86-64-v3 comprises.
CPUS = {
    "Nehalem": ["baseline"],
    "SandyBridge": ["baseline"],
    "Haswell": ["baseline", "avx2"],
    "EPYC-Milan": ["baseline", "avx2"],
    "Haswell,-xsave": ["baseline"],
    "Haswell,-fma": ["baseline"],
}
TESTED = ("Nehalem", "Haswell")
# What src/cpp/runtime/float_environment.hpp puts into MXCSR for computing, and what a process starts with: as
# they stand in the instructions of the native module.
FLUSHING = (0x9FC0).to_bytes(4, "little")
KEEPING = (0x1F80).to_bytes(4, "little")


def make_interpreter(folder: Path, qemu: str, cpu: str) -> Path:
    """Make a virtual environment with the packages of this one whose python runs under qemu."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    real = Path(sys.executable).resolve()
    # -0: what Python takes for its own path, and so for sys.executable.
    python.write_text(f'#!/bin/sh\nexec {qemu} -cpu {cpu} -0 {python} {real} "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", folder)
    (folder / "lib").symlink_to(Path(sys.prefix) / "lib")
    return python


def rungs_of(python: Path, environment: dict[str, str]) -> tuple[list[str], str]:
    """Return the rungs available on an emulated CPU and the one in use."""
    code = "import attnlib; print(*attnlib.available_isas(), attnlib.isa())"
    result = subprocess.run(
        [python, "-c", code], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise SystemExit(f"exit {result.returncode} at import:\n{result.stderr[-2000:]}")
    *available, used = result.stdout.split()
    return available, used


def copy_that_keeps_subnormals(folder: Path) -> Path:
    """Copy the package into a folder, with a module that computes with subnormal numbers."""
    package = shutil.copytree(ROOT / "attnlib", folder / "attnlib")
    (module,) = package.glob("_core*.so")
    code = module.read_bytes()
    if FLUSHING not in code:
        raise SystemExit(f"{module.name} does not set MXCSR as this tool expects")
    module.write_bytes(code.replace(FLUSHING, KEEPING))
    return folder


def run_tests(python: Path, environment: dict[str, str], tests: list[str]) -> tuple[bool, str]:
    """Return whether all passed, and pytest's last line."""
    command = [
        str(python),
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--rootdir={ROOT}",
        f"--config-file={ROOT / 'pyproject.toml'}",
        f"--deselect={HOST_CPU_TEST}",
        *tests,
    ]
    last = ""
    # In the interpreter's folder: pytest imports from where it is started before it looks at PYTHONPATH.
    with subprocess.Popen(
        command, env=environment, cwd=python.parent, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if re.search(r"FAILED|ERROR|^E  ", line):
                print(line, end="", flush=True)
            last = line.strip() or last
    # 5: none of the tests asked for has float16 in its name, or all have.
    return process.returncode in (0, 5), f"{last} (exit {process.returncode})"


def main() -> int:
    """Check the rungs of each CPU, then run the tests on those asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--cpu", action="append", choices=CPUS, help="a CPU to test (default: Nehalem, Haswell)"
    )
    parser.add_argument(
        "tests", nargs="*", help="what pytest is to run; nothing: only the choice of rung is checked"
    )
    options = parser.parse_args()
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None:
        raise SystemExit("qemu-x86_64-static is needed: apt-get install qemu-user-static")
    if sys.prefix == sys.base_prefix:
        raise SystemExit("run this in a virtual environment: its packages are those that the tests use")
    environment = {**os.environ, **FAST_ORACLE, "PYTHONPATH": str(ROOT)}
    environment.pop("ATTNLIB_ISA", None)
    failures = 0
    with tempfile.TemporaryDirectory() as temporary:
        for number, (cpu, expected) in enumerate(CPUS.items()):
            if options.cpu and cpu not in options.cpu:
                continue
            python = make_interpreter(Path(temporary) / str(number), qemu, cpu)
            available, used = rungs_of(python, environment)
            right = available == expected and used == expected[-1]
            failures += not right
            print(
                f"{cpu}: takes {used} of {available}{'' if right else f', expected {expected}'}", flush=True
            )
            if not options.tests or not (options.cpu or cpu in TESTED):
                continue
            tests = [str(ROOT / test) for test in options.tests]
            runs = [(environment, tests)]
            if "avx2" in expected:
                keeping = copy_that_keeps_subnormals(Path(temporary) / f"{number}-keeping")
                runs = [
                    (environment, ["-k", "not float16", *tests]),
                    ({**environment, "PYTHONPATH": str(keeping)}, ["-k", "float16", *tests]),
                ]
            for environment_of_run, arguments in runs:
                passed, summary = run_tests(python, environment_of_run, arguments)
                failures += not passed
                print(f"{cpu}: {summary}", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
