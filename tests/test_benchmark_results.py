"""The benchmark: ratios, verdicts and what is written of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_examples import QUICK, made_up, timing

from attnlib.benchmark import plots
from attnlib.benchmark.engines import OURS
from attnlib.benchmark.report import Report
from attnlib.benchmark.result import Contestant, Result
from attnlib.benchmark.workload import Target, Workload

PEER = Contestant("PyTorch", "float32")
LOW = Contestant("PyTorch", "bfloat16")
FAR = Contestant("NumPy", "float32")


def result_of(workload: Workload, **fields: Any) -> Result:
    timings = {
        Contestant(OURS, workload.precision): timing(2.0, 3.0),
        PEER: timing(6.0, 5.0),
        LOW: timing(3.0),
    }
    return Result(
        workload,
        timings=timings,
        trials={FAR: 40.0},
        ways={who: "way" for who in (*timings, FAR)},
        errors={who: 0.0 for who in (*timings, FAR)},
        ceiling=100.0,
        **fields,
    )


def test_ratios() -> None:
    result = result_of(made_up(precision="bfloat16"))
    assert result.ours == 2.0
    assert result.fastest() == LOW
    assert result.ratio() == 1.5
    assert result.ratio("PyTorch", "float32") == 2.5
    assert result.ratio("NumPy") == 20.0
    assert result.ratio("OpenVINO") is None
    assert result.share(100.0) == 0.5
    assert result.share(None) is None


def test_verdicts() -> None:
    targets = (
        Target("ratio", 1.5),
        Target("ratio", 1.6),
        Target("ratio", 2.0, "PyTorch", "float32"),
        Target("ratio", 1.0, "OpenVINO"),
        Target("share", 0.5),
        Target("share", 0.51),
        Target("cosine", 0.999),
    )
    result = result_of(made_up(precision="bfloat16", targets=targets), cosine=0.9995)
    verdicts = result.verdicts(100.0)
    assert [verdict.measured for verdict in verdicts] == [1.5, 1.5, 2.5, None, 0.5, 0.5, 0.9995]
    assert [verdict.met for verdict in verdicts] == [True, False, True, None, True, False, True]
    # attnlib is at half of the ceiling, so that twice the ratio is all that the machine allows.
    assert [verdict.limit for verdict in verdicts] == [3.0, 3.0, 5.0, None, None, None, None]
    assert not any(verdict.forbidden for verdict in verdicts)


@pytest.mark.parametrize(
    ("ceiling", "per_second", "limit"),
    [("float32", 60.0, 1.8), ("memory", 60.0, 1.8), ("memory", 40.0, None), ("cache", 60.0, None)],
)
def test_a_target_beyond_the_ceiling_is_forbidden(
    ceiling: str, per_second: float, limit: float | None
) -> None:
    # 100 operations in 2 seconds, where a peer takes 3: 50 of 60 a second are 0.83 of the ceiling.
    workload = made_up(precision="bfloat16", ceiling=ceiling, targets=(Target("ratio", 2.0),))
    result = replace(result_of(workload), ceiling=per_second)
    (verdict,) = result.verdicts(per_second)
    assert verdict.limit == (limit and pytest.approx(limit))
    assert verdict.forbidden == (limit is not None)
    report = report_of(result)
    assert json.loads(report.json())["geometric_mean_at_ceilings"] == pytest.approx(limit or 1.5)
    assert f"at the ceiling that bounds it: {limit or 1.5:.2f}" in report.summary()
    told = "targets met: 0 of 1, 1 beyond the machine's ceiling" if limit else "targets met: 0 of 1\n"
    assert told in report.summary()
    assert ("1.50 ≥ 2.00 × best: missed (at the ceiling: 1.80)" in report.summary()) == bool(limit)


def report_of(*results: Result) -> Report:
    return Report({OURS: "1", "NumPy": "2", "PyTorch": "3"}, QUICK, list(results))


def test_a_report_takes_the_best_ceiling_of_the_run() -> None:
    slow = result_of(made_up("one"))
    fast = replace(result_of(made_up("two")), ceiling=200.0)
    other = replace(result_of(made_up("three", ceiling="cache")), ceiling=50.0)
    report = report_of(slow, fast, other)
    assert [report.ceiling(result) for result in report.results] == [200.0, 200.0, 50.0]


def test_a_report_takes_the_geometric_mean() -> None:
    one = result_of(made_up("one", precision="bfloat16", targets=(Target("ratio", 2.0),)))  # 1.5
    slower = {**one.timings, PEER: timing(12.0), LOW: timing(12.0)}
    other = made_up("two", precision="bfloat16", family="others")
    two = replace(one, workload=other, timings=slower)  # 6.0
    curve = result_of(made_up("three", curve="curve", length=8))
    report = report_of(one, two, curve)
    assert report.ratios() == [1.5, 6.0]
    assert json.loads(report.json())["geometric_mean"] == pytest.approx(3.0)
    assert "over all: 3.00 (met: at least 1.40)" in report.summary()
    assert "by family: made up 1.50, others 6.00" in report.summary()
    assert "targets met: 0 of 1" in report.summary()
    assert "missed: one bfloat16 (1.50 ≥ 2.00 × best: missed)" in report.summary()
    assert "least ratio: 1.50 (met" in report.summary()


def test_a_report_of_nothing() -> None:
    report = report_of()
    assert json.loads(report.json())["workloads"] == []
    assert "targets met: 0 of 0" in report.markdown()


def test_the_table() -> None:
    report = report_of(result_of(made_up(precision="bfloat16", targets=(Target("share", 0.4),))))
    report.left_out.append("another: no model")
    table = report.markdown().splitlines()
    (row,) = (line for line in table if line.startswith("| made up"))
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "made up bfloat16",
        "~40,000,000 f32",
        "3,000,000 ±15 %",
        "2,000,000 ±15 %",
        "1.50",
        "50 % of float32",
        "50 % ≥ 40 %: met",
    ]
    assert "- another: no model" in table


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    targets = (Target("ratio", 2.0), Target("share", 0.4))
    results = [
        result_of(made_up("one", precision="bfloat16", targets=targets)),
        result_of(made_up("two", precision="bfloat16")),
        *(result_of(made_up(f"S{n}", precision="bfloat16", curve="curve", length=n)) for n in (8, 16)),
    ]
    assert plots.write(report_of(*results), tmp_path) == ["ratios.png", "shares.png", "lengths.png"]
    for path in tmp_path.iterdir():
        assert path.read_bytes().startswith(b"\x89PNG")
    assert plots.write(report_of(), tmp_path) == []
