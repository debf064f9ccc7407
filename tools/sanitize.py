"""Run the tests on native modules that sanitizers watch.

    python tools/sanitize.py asan            # AddressSanitizer, UndefinedBehaviorSanitizer, leaks: the suite
    python tools/sanitize.py tsan tests/ops  # ThreadSanitizer, on two threads: these tests
    python tools/sanitize.py valgrind        # tests/cpp under memcheck: no use of what nobody wrote
    python tools/sanitize.py valgrind tests/ops/test_norms.py         # and these tests

Configures and builds the CMake preset of that name, unless `--no-build`, and tests the copy of the package in
build/NAME/package: the modules in attnlib/ stay what they are. First programs that are wrong are run: if one
is not reported, that is a failure. The test files then run a few to a process; a report of that process or of
one that it started counts, whether a test fails of it or not. Wants Linux, GCC and its libasan, libubsan and
libtsan, or valgrind.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
PRELOADED = {"asan": ("libasan.so", "libubsan.so", "libstdc++.so"), "tsan": ("libtsan.so",), "valgrind": ()}
MEMCHECK = ["valgrind", "--error-limit=no", "--track-origins=yes", "--num-callers=24"]
# Reads past the end of an array; a result that is kept for ever; two threads of one call that write the same
# memory; an array never written.
WRONG_PROGRAMS = {
    "asan": (
        """
import numpy as np, attnlib
attnlib.softmax(np.lib.stride_tricks.as_strided(np.ones(100, np.float32), (2, 100), (400, 4)))
""",
        """
import ctypes, numpy as np, attnlib
result = attnlib.softmax(np.ones((1000, 1000), np.float32))
ctypes.pythonapi.Py_IncRef(ctypes.py_object(result))
del result
""",
    ),
    "tsan": (
        """
import numpy as np, attnlib
x = np.lib.stride_tricks.as_strided(np.ones((1000, 1000), np.float32), (4, 1000, 1000), (0, 4000, 4))
attnlib.softmax(x, out=x)
""",
    ),
    "valgrind": (
        """
import numpy as np, attnlib
attnlib.softmax(np.empty(5000, np.float32))
""",
    ),
}
# Tests that cannot pass under a sanitizer, and why.
LEFT_OUT: dict[str, dict[str, str]] = {
    "asan": {
        "tests/test_cli_examples.py::test_the_example_runs[bench]": "OpenVINO opens libraries with "
        "RTLD_DEEPBIND, at which AddressSanitizer ends the process",
        "tests/test_benchmark_speech.py::test_thirty_seconds_of_speech": "espeak-ng, alone too, does not end",
        **{
            f"tests/{test}": "the child hangs if a thread held GCC 12's allocator at the fork, without us too"
            for test in (
                "servers/test_fork.py::test_children_compute_in_parallel",
                "servers/test_fork.py::test_fork_while_other_threads_compute",
                "test_failing_tasks.py::test_a_fork_while_weights_are_packed",
                "test_openmp_neighbours.py::test_beside_another_library",
            )
        },
        "tests/servers/test_trim.py::test_gives_scratch_back": "no scratch is kept that it could give back",
        **{
            f"tests/test_result_memory.py::{test}": "no result's memory is kept"
            for test in (
                "test_the_next_result_has_the_memory_of_the_one_before",
                "test_no_more_than_64_mb_are_kept",
            )
        },
        **{
            f"tests/{test}": "what was freed stays: the quarantine"
            for test in (
                "test_memory.py::test_long_sequence",
                "viz/test_statistics.py::test_no_matrix_is_held",
            )
        },
    },
    "tsan": {
        # In a child the parent's threads count as alive: a new one has a "used id", which is fatal.
        **{
            f"tests/{test}": "ThreadSanitizer knows no threads after fork"
            for test in (
                "servers/test_fork.py",
                "servers/test_gunicorn.py::test_requests[--preload",
                "servers/test_idle.py::test_idle",
                "servers/test_signal_handlers.py::test_an_operation_in_a_handler[1-in_child",
                "servers/test_signal_handlers.py::test_an_operation_in_a_handler[2-in_child",
                "servers/test_signal_handlers.py::test_handlers_wait_while_an_exception_is_on_its_way[in_child",
                "test_openmp_neighbours.py::test_beside_another_library",
                "test_result_memory.py::test_after_a_fork",
                "test_runtime.py::test_fork_after_use",
                "test_runtime.py::test_multiprocessing_pool",
            )
        },
        # Long calls on little memory.
        **{
            f"tests/servers/test_interruption.py::test_keyboard_interrupt[{call}-2]": "tasks share an output"
            for call in ("linear", "softmax", "gelu", "layer_norm")
        },
        "tests/test_cli_examples.py::test_the_example_runs": "a shell with libtsan preloaded ends of it",
        "tests/test_benchmark_speech.py::test_thirty_seconds_of_speech": "espeak-ng, alone too, does not end",
        # Shadow, that is never given back: several times what has been touched.
        **{
            f"tests/{test}": "the memory that it measures is ThreadSanitizer's"
            for test in (
                "servers/test_packed_file.py::test_processes_share_it",
                "servers/test_trim.py::test_gives_scratch_back",
                "test_memory.py",
                "test_result_memory.py::test_resident_memory_stays_flat",
                "viz/test_statistics.py::test_no_matrix_is_held",
            )
        },
    },
    "valgrind": {},
}
# glibc frees the thread-local memory of a thread when it gives its stack to another: after its end, as the
# kernel told it, and so unseen. The threads of PyTorch and scikit-learn are ordered by libgomps of their own,
# which are unseen, too; SentencePiece's by itself.
SUPPRESSIONS = "race:_dl_deallocate_tls\nrace:libtorch_cpu.so\nrace:sklearn\nrace:_sentencepiece\n"
# Python does things that memcheck does not like; what counts is where our functions are on the stack, or on
# that of the allocation.
REPORT = re.compile(
    r"ERROR: AddressSanitizer|runtime error:|ThreadSanitizer: |==\d+==.* 0x[0-9A-F]+: .*attnlib::"
)
# Python leaks by itself. What counts is what our modules asked the allocator for: frame 0 is the allocator,
# and between it and us may be the C++ library.
LEAK = re.compile(
    r"(?:Direct|Indirect) leak of .*\n(?:\s+#\d.*\n){1,2}\s+#\d.*(?:_core|cython_api)\.cpython.*\n"
)


def sanitized_environment(preset: str, logs: Path) -> dict[str, str]:
    """Return the environment of the processes under test: their reports go to files in `logs`."""
    suppressions = ROOT / "build" / preset / "suppressions.txt"
    suppressions.write_text(SUPPRESSIONS, encoding="utf-8")
    libraries = [
        subprocess.check_output(["g++", f"-print-file-name={name}"], text=True).strip()
        for name in PRELOADED[preset]
    ]
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "PYTHONPATH": str(ROOT / "build" / preset / "package"),
        "OMP_NUM_THREADS": "2" if preset == "tsan" else "1",
        # Memory that is not to be had is a MemoryError.
        "ASAN_OPTIONS": f"allocator_may_return_null=1:quarantine_size_mb=64:log_path={logs}/address",
        # The module of each frame, which LEAK looks for.
        "LSAN_OPTIONS": "exitcode=0:stack_trace_format='    #%n %f %S %m'",
        "UBSAN_OPTIONS": f"print_stacktrace=1:log_path={logs}/undefined",
        # Tests fork while there are threads.
        "TSAN_OPTIONS": f"die_after_fork=0:log_path={logs}/thread:suppressions={suppressions}",
        # The threads of tokenizers (Rust) order themselves in ways that ThreadSanitizer does not see.
        "TOKENIZERS_PARALLELISM": "false",
        # Python's objects are blocks of their own, too: what we do with one that has gone is seen.
        "PYTHONMALLOC": "default" if preset == "tsan" else "malloc",
    }


def take_reports(logs: Path) -> list[str]:
    """Read the files in `logs`, remove them, and return the reports that count."""
    reports = []
    for path in sorted(logs.iterdir()):
        text = path.read_text(encoding="utf-8", errors="replace")
        path.unlink()
        reports += [leak[0] for leak in LEAK.finditer(text)]
        reports += [part for part in re.split(r"={18}\n|==\d+== \n", text) if REPORT.search(part)]
    return reports


def test_files(tests: list[str]) -> list[str]:
    """Return files and test ids as they are, folders as the test files in them."""
    paths = [ROOT / name for name in tests]
    return [
        str(file) for path in paths for file in (sorted(path.rglob("test_*.py")) if path.is_dir() else [path])
    ]


def run_pytest(
    preset: str, python: list[str], files: list[str], environment: dict[str, str]
) -> tuple[int, str]:
    """Run pytest in a process of its own; return its exit code and all that it printed."""
    left_out = [f"--deselect={test}" for test in LEFT_OUT[preset]]
    settings = ["-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", "-c", str(ROOT / "pyproject.toml")]
    result = subprocess.run(
        [*python, "-m", "pytest", *settings, *left_out, *files],
        cwd=ROOT / "build" / preset,  # in the source tree, its own attnlib/ would come first
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout


def run_suite(preset: str, tests: list[str], files_together: int) -> bool:
    """Run the wrong programs and the tests; return whether all passed and only the former were reported."""
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as logs:
        environment = sanitized_environment(preset, Path(logs))
        stop = {"TSAN_OPTIONS": f"halt_on_error=1:{environment['TSAN_OPTIONS']}"}
        memcheck = [*MEMCHECK, f"--log-file={logs}/memcheck.%p"] if preset == "valgrind" else []
        python = [*memcheck, sys.executable]
        for wrong in WRONG_PROGRAMS[preset]:
            subprocess.run([*python, "-c", wrong], cwd=logs, env={**environment, **stop}, check=False)
            if not take_reports(Path(logs)):
                print(f"{preset}: a program that is wrong was not reported:{wrong}")
                return False
        files = test_files(tests)
        for first in range(0, len(files), files_together):
            together = files[first : first + files_together]
            started = time.monotonic()
            code, output = run_pytest(preset, python, together, environment)
            summary = (output.splitlines() or [""])[-1]
            # 5: all are deselected or skipped as files.
            if code not in (0, 5) or not re.search("passed|skipped|deselected", summary):
                totals["processes that failed"] += 1
                print(f"{output[-10000:]}\nexit code {code}")
            reports = take_reports(Path(logs))
            print("".join(report[:5000] for report in reports[:5]), end="")
            totals["reports"] += len(reports)
            for number, what in re.findall(r"(\d+) (passed|failed|error|skipped|deselected)", summary):
                totals[what] += int(number)
            names = " ".join(str(Path(name).relative_to(ROOT)) for name in together)
            seconds = time.monotonic() - started
            print(f"{names}: {summary}; {len(reports)} reports, {seconds:.0f} s in all", flush=True)
    print(f"{preset}: {', '.join(f'{total} {what}' for what, total in totals.items())}")
    return totals["processes that failed"] == totals["reports"] == 0


def run_kernel_tests() -> bool:
    """Run the C++ tests under memcheck, on the rungs whose instructions valgrind knows."""
    program = ROOT / "build" / "valgrind" / "tests" / "cpp" / "kernel_tests"
    command = [*MEMCHECK, "--error-exitcode=1", str(program)]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False).returncode == 0


def build(preset: str, jobs: int) -> None:
    """Configure and build a preset."""
    pybind11 = subprocess.check_output([sys.executable, "-m", "pybind11", "--cmakedir"], text=True).strip()
    python = [f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11}"]
    subprocess.run(["cmake", "--preset", preset, *python], cwd=ROOT, check=True)
    subprocess.run(["cmake", "--build", f"build/{preset}", f"-j{jobs}"], cwd=ROOT, check=True)


def main() -> int:
    """Build the preset and run what belongs to it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("preset", choices=["asan", "tsan", "valgrind"])
    parser.add_argument("tests", nargs="*", help="files, folders or test ids (default: tests)")
    parser.add_argument("--no-build", action="store_true", help="take what build/PRESET holds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="compilers at once (default: CPUs)")
    parser.add_argument("--files-together", type=int, default=4, help="files to a process (default: 4)")
    options = parser.parse_intermixed_args()
    # A shell ignores Ctrl-C for what it runs in the background, and so would all processes under test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not options.no_build:
        build(options.preset, options.jobs)
    tests = options.tests or ([] if options.preset == "valgrind" else ["tests"])
    passed = run_suite(options.preset, tests, options.files_together)
    if options.preset == "valgrind":
        passed &= run_kernel_tests()
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
