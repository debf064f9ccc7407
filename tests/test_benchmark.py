"""The benchmark: what it writes, and the arithmetic of it. How fast anything is, no test says."""

from __future__ import annotations

import fcntl
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_examples import OUR_FLOAT32, QUICK, made_up, timing
from models import folders
from processes import RunPython

import attnlib
from attnlib import _core, cli
from attnlib.benchmark import lock, texts
from attnlib.benchmark.agreement import Disagreement, check, least_cosine, relative_error, tolerance
from attnlib.benchmark.ceilings import Ceilings
from attnlib.benchmark.contest import Contest
from attnlib.benchmark.engines import NAMES, OURS, PLAIN, load
from attnlib.benchmark.engines.engine import Call, Engine
from attnlib.benchmark.measure import measure_turns
from attnlib.benchmark.options import Options
from attnlib.benchmark.result import Contestant
from attnlib.benchmark.workload import PRECISIONS, at_least
from attnlib.benchmark.workloads import EVERYTHING, TABLE, chosen

# The command


def test_the_command_writes_a_table_json_and_plots(tmp_path: Path, run_python: RunPython) -> None:
    folder = tmp_path / "results"
    arguments = ["bench", "--quick", "--workloads", "softmax 1536", "--output", str(folder)]
    done = run_python(f"import sys; from attnlib.cli import main; sys.exit(main({arguments!r}))")
    assert f"written to {folder}: results.json, results.md" in done.stdout
    assert "softmax 1536x128" in done.stderr
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert list(found["versions"]) == [OURS, PLAIN]
    (workload,) = found["workloads"]
    assert workload["name"] == "softmax 1536x128"
    assert [c["engine"] for c in workload["contestants"]] == [OURS, PLAIN]
    for contestant in workload["contestants"]:
        assert contestant["error"] < 1e-5
        assert contestant["seconds"] > 0
        (block,) = contestant["blocks"]
        assert block["median"] == contestant["seconds"]
    ours, plain = (contestant["seconds"] for contestant in workload["contestants"])
    assert workload["ratio"] == pytest.approx(plain / ours)
    assert workload["best_peer"] == "NumPy float32"
    assert workload["share"] == pytest.approx(workload["amount"] / ours / workload["ceiling_per_second"])
    table = (folder / "results.md").read_text(encoding="utf-8")
    (row,) = (line for line in table.splitlines() if line.startswith("| softmax 1536x128 |"))
    (head,) = (line for line in table.splitlines() if line.startswith("| workload |"))
    assert row.count("|") == head.count("|")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert 'pip install "attnlib[viz]"' in done.stderr
        assert not list(folder.glob("*.png"))
    else:
        assert sorted(path.name for path in folder.glob("*.png")) == ["ratios.png", "shares.png"]


def test_the_command_lists_workloads(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == [workload.name for workload in EVERYTHING]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--workloads", "nothing of the kind"], "no workload is called nothing of the kind"),
        (["--output", "FILE"], "is not a folder"),
        (["--model", "FILE"], "is not a folder"),
    ],
)
def test_errors_of_the_user(
    arguments: list[str], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    arguments = [str(tmp_path / "file") if argument == "FILE" else argument for argument in arguments]
    assert cli.main(["bench", *arguments]) == 2
    assert part in capsys.readouterr().err


def test_importing_attnlib_leaves_it_alone(run_python: RunPython) -> None:
    code = "import sys, attnlib, attnlib.cli; print([m for m in sys.modules if 'attnlib.benchmark' in m])"
    assert run_python(code).stdout.strip() == "[]"


def test_options_survive_the_command_line() -> None:
    options = Options(threads=2, peers=True, workloads=("a", "b"), output="x", model="m", quick=True)
    assert Options.from_json(options.to_json()) == options


# Workloads


def test_names_are_unique() -> None:
    names = [workload.name for workload in EVERYTHING]
    assert len(set(names)) == len(names)


def test_targets_speak_of_what_there_is() -> None:
    for workload in TABLE:
        assert bool(workload.targets) != bool(workload.curve), workload.name
        assert workload.precision in PRECISIONS
        for target in workload.targets:
            assert target.peer is None or target.peer in NAMES
            assert target.precision is None or target.precision in workload.peer_precisions
            if target.kind == "share":
                assert workload.ceiling is not None
                assert workload.amount > 0


def test_inputs_are_the_same_in_each_run_and_of_their_precision() -> None:
    (float32,) = chosen(("linear M17 384->1536",))[:1]
    (bfloat16,) = chosen(("linear M17 384->1536 bfloat16",))
    for first, again in zip(float32.inputs()[:3], float32.inputs()[:3], strict=True):
        np.testing.assert_array_equal(first, again)
    for exact, rounded in zip(float32.inputs()[:3], bfloat16.inputs()[:3], strict=True):
        assert rounded.dtype == np.float32
        assert not np.any(rounded.view(np.uint32) & 0xFFFF)
        np.testing.assert_allclose(rounded, exact, rtol=2**-8)


def test_precisions_that_serve() -> None:
    assert at_least("float32") == ("float32",)
    assert at_least("int8") == ("float32", "bfloat16", "int8")
    assert made_up(precision="bfloat16", curve="c").peer_precisions == ("bfloat16",)


def test_sentences_are_the_same_in_each_run() -> None:
    found = texts.sentences(50)
    assert found == texts.sentences(50)
    assert len(set(found)) == 50


def test_files_of_the_library_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian has a link among them that may lead nowhere."""
    library = Path(texts.os.__file__).parent
    for name in ("argparse.py", "os.py", "subprocess.py", "typing.py"):
        (tmp_path / name).symlink_to(library / name)
    monkeypatch.setattr(texts.os, "__file__", str(tmp_path / "os.py"))
    found = texts.sentences(20)
    (tmp_path / "sitecustomize.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "folder.py").mkdir()
    assert texts.sentences(20) == found


def test_rows_of_tokens(tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    folder = folders.make(tmp_path / "model").write()
    found = texts.token_rows(folder, 3, 16)
    assert found.shape == (3, 16)
    assert len(set(found[:, 0])) == len(set(found[:, -1])) == 1
    np.testing.assert_array_equal(found, texts.token_rows(folder, 3, 16))


def test_a_model_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNLIB_TEST_MODELS", "")
    texts.use_model(tmp_path)
    with pytest.raises(FileNotFoundError, match="no model in"):
        texts.model_folder()
    (tmp_path / "config.json").touch()
    assert texts.model_folder() == tmp_path


# Measuring


def test_turns_begin_with_another_function_each_time() -> None:
    order: list[int] = []

    def function(index: int) -> Callable[[], None]:
        def call() -> None:
            if not order or order[-1] != index:
                order.append(index)

        return call

    timings = measure_turns([function(0), function(1), function(2)], rotations=2, seconds=1e-4, rest=0.0)
    assert order == [0, 1, 2, 1, 2, 0]
    assert [len(found.blocks) for found in timings] == [2, 2, 2]


@pytest.mark.parametrize(("most", "expected"), [(None, 2), (3, 3), (9, 4)])
def test_turns_go_on_until_the_best_blocks_are_confirmed(
    most: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    lengths = iter([3.0, 1.0, 2.0, 1.04, 1.0])

    def call() -> None:
        nonlocal now
        now += next(lengths)

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    (found,) = measure_turns([call], rotations=2, seconds=0.0, rest=0.0, most_rotations=most)
    assert [block.median for block in found.blocks] == [3.0, 1.0, 2.0, 1.04][:expected]


def test_a_timing_is_its_best_block() -> None:
    found = timing(3.0, 2.0, 4.0)
    assert found.seconds == 2.0
    assert found.drift == 1.0
    assert found.spread == pytest.approx(0.3)


def test_the_lock_is_exclusive_while_timing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    monkeypatch.setenv(lock.VARIABLE, str(path))
    with lock.preparing(), path.open() as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with lock.timing(), path.open() as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    monkeypatch.delenv(lock.VARIABLE)
    with lock.timing():
        pass


# Ceilings


def test_ceilings_of_arithmetic() -> None:
    for dtype, per_step in (("float32", 2), ("bfloat16", 4), ("int8", 8)):
        done = _core.ceiling_multiply_add(dtype, 1000)
        assert done == 10 * _core.ceiling_multiply_add(dtype, 100)
        assert done % (1000 * per_step) == 0
        if dtype == "float32" or attnlib.isa() in ("avx512_vnni_bf16", "avx512_amx"):
            assert done > 0
    assert _core.ceiling_multiply_add("float32", 0) == 0


def test_ceilings_of_reading() -> None:
    data = np.ones(10_000, np.float32)
    whole = _core.ceiling_read(data, 1)
    assert data.nbytes - 512 < whole <= data.nbytes
    assert _core.ceiling_read(data, 7) == 7 * whole
    assert _core.ceiling_read(data[:3], 1) == 0


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: _core.ceiling_multiply_add("int4", 1), "dtype must be float32, bfloat16 or int8, got int4"),
        (lambda: _core.ceiling_multiply_add("float32", -1), "steps must not be negative, got -1"),
        (lambda: _core.ceiling_read(np.ones(4, np.float32), -1), "times must not be negative, got -1"),
        (
            lambda: _core.ceiling_read(np.ones(4), 1),
            "contiguous float32 array, got float64 of shape \\(4,\\)",
        ),
        (lambda: _core.ceiling_read(np.ones(8, np.float32)[::2], 1), "contiguous float32 array"),
    ],
)
def test_ceilings_refuse(call: Callable[[], float], part: str) -> None:
    with pytest.raises(ValueError, match=part):
        call()


@pytest.mark.parametrize("threads", [1, 2])
def test_ceilings_from_threads(threads: int) -> None:
    ceilings = Ceilings(threads)
    for kind in ("float32", "bfloat16", "int8", "cache"):
        ceiling = ceilings.find(kind, 1e6)
        if ceiling is not None:
            (found,) = measure_turns([ceiling.run], rotations=1, seconds=0.0, rest=0.0)
            rate = ceiling.amount / found.seconds
            assert math.isfinite(rate)
            assert rate > 0
    assert ceilings.find(None, 1.0) is None
    assert ceilings.find("int4", 1.0) is None


# Agreement


def test_what_agrees() -> None:
    expected = np.array([[3.0, 4.0], [1.0, 0.0]], np.float32)
    assert relative_error(expected * np.float32(1.01), expected) == pytest.approx(0.01, rel=1e-4)
    assert least_cosine(expected * 2, expected) == pytest.approx(1.0)
    assert least_cosine(np.array([[3.0, 4.0], [1.0, 1.0]]), expected) == pytest.approx(0.5**0.5)
    call = Call("way", lambda: expected + np.float32(1e-3))
    check(call, expected, 1e-2)
    for bad in (expected + np.float32(1e-3), expected[:1], np.full_like(expected, np.nan)):
        with pytest.raises(Disagreement, match=r"differs|shape"):
            check(Call("way", lambda bad=bad: bad), expected, 1e-5)
    assert tolerance("linear", "float32") < tolerance("linear", "bfloat16") < tolerance("model", "int8")


class Fake(Engine):
    """An engine of one operation, which may be wrong or fail."""

    def __init__(self, *ways: Callable[[Any], Any], precision: str = "float32") -> None:
        super().__init__(1)
        self._ways, self._precision = ways, precision

    @property
    def version(self) -> str:
        return "0"

    def sums(self, precision: str, x: Any) -> list[Call]:
        if precision != self._precision:
            return []
        return [Call(f"way {i}", lambda way=way: way(x)) for i, way in enumerate(self._ways)]


def right(x: Any) -> Any:
    return x.sum(axis=1)


def wrong(x: Any) -> Any:
    return -x.sum(axis=1)


def failing(x: Any) -> Any:
    raise RuntimeError("not on this machine\nand more")


def contest_of(**engines: Engine) -> Contest:
    return Contest(dict(engines), Ceilings(1), QUICK)


def test_a_contest() -> None:
    contest = contest_of(attnlib=Fake(right), NumPy=Fake(right), Other=Fake(wrong, failing, right))
    result = contest.run(made_up())
    assert set(result.ways) == {OUR_FLOAT32, Contestant("NumPy", "float32"), Contestant("Other", "float32")}
    assert result.ways[Contestant("Other", "float32")] == "way 2"
    assert not contest.failures
    differs, fails = result.left_out
    assert differs.startswith("Other float32: way 0: differs by 2.0e+00 of the norm")
    assert fails == "Other float32: way 1: RuntimeError: not on this machine"
    assert result.ceiling is not None
    assert OUR_FLOAT32 in result.timings


def test_a_peer_may_be_more_exact() -> None:
    engines = {
        "attnlib": Fake(right, precision="int8"),
        "NumPy": Fake(right),
        "Low": Fake(right, precision="int4"),
    }
    result = Contest(engines, Ceilings(1), QUICK).run(made_up(precision="int8"))
    assert set(result.ways) == {Contestant(OURS, "int8"), Contestant("NumPy", "float32")}


def test_a_wrong_result_of_ours_is_a_failure() -> None:
    contest = contest_of(attnlib=Fake(wrong), NumPy=Fake(right))
    result = contest.run(made_up())
    assert result.ours is None
    assert result.ratio() is None
    (failure,) = contest.failures
    assert failure.startswith("made up: differs")


def test_the_fastest_of_one_engine() -> None:
    found = contest_of(NumPy=Fake(right)).fastest(made_up())
    assert found is not None
    assert found[0] == Contestant("NumPy", "float32")
    assert contest_of(NumPy=Fake(precision="none")).fastest(made_up()) is None


def test_plain_numpy_agrees_with_attnlib() -> None:
    """On small workloads of every operation that NumPy has here."""
    engines = {name: load(name, attnlib.get_num_threads()) for name in (OURS, PLAIN)}
    rng = np.random.default_rng(0)
    query, key, value = (rng.standard_normal((2, h, 9, 8), dtype=np.float32) for h in (4, 2, 2))
    for causal in (False, True):
        ours, plain = (
            engine.calls("attention", "float32", (query, key, value, causal))[0]
            for engine in engines.values()
        )
        check(ours, plain.array(plain.run()), 1e-5)
