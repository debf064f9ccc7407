"""What a run found: a Markdown table, JSON, and a summary of what was reached and what was not."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from statistics import geometric_mean, median
from typing import Any

from attnlib.benchmark.engines import OURS
from attnlib.benchmark.machine import disturbance, processor
from attnlib.benchmark.options import Options
from attnlib.benchmark.result import Contestant, Result, Verdict
from attnlib.benchmark.workload import Target
from attnlib.benchmark.workloads import GEOMETRIC_MEANS, LEAST_RATIO

__all__ = ["COMPUTE", "Report"]

# Ceilings of arithmetic: the machine's best rate is that of the whole run. Those of reading depend on the
# workload.
COMPUTE = ("float32", "bfloat16", "int8")
_UNITS = {"float32": "GFLOP/s", "bfloat16": "GFLOP/s", "int8": "GOP/s", "memory": "GB/s"}
_SHORT = {"float32": "f32", "bfloat16": "bf16"}


@dataclass
class Report:
    """The results of a run, and what they were found with.

    Attributes
    ----------
    versions : dict
        Of the engines, by name.
    options : Options
    results : list of Result
    left_out : list of str
        Workloads that were not run, and why.
    """

    versions: dict[str, str]
    options: Options
    results: list[Result] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def table(self) -> list[Result]:
        """The results that are lines of the table: not the points of curves."""
        return [result for result in self.results if not result.workload.curve]

    def ceiling(self, result: Result) -> float | None:
        """Return what the machine can do of what bounds a workload, per second."""
        kind = result.workload.ceiling
        if kind not in (*COMPUTE, "memory"):
            return result.ceiling
        found = [r.ceiling for r in self.results if r.workload.ceiling == kind and r.ceiling]
        return max(found, default=None)

    def verdicts(self, result: Result) -> list[Verdict]:
        """Hold a result against its targets."""
        return result.verdicts(self.ceiling(result))

    def ratios(self, family: str | None = None) -> list[float]:
        """Return the ratios to the best peer, of all of the table or a family."""
        chosen = (r for r in self.table if family in (None, r.workload.family))
        return [ratio for result in chosen if (ratio := result.ratio()) is not None]

    def limits(self) -> list[float]:
        """Return the ratios of all of the table as they would be at the ceilings, where these bound them."""
        pairs = ((r.ratio(), r.limit(r.ratio(), self.ceiling(r))) for r in self.table)
        return [limit or ratio for ratio, limit in pairs if ratio is not None]

    def line(self, result: Result) -> str:
        """Tell one result in a line."""
        times = ", ".join(f"{who} {timing.seconds * 1e6:,.0f} µs" for who, timing in result.timings.items())
        ratio = result.ratio()
        return f"{result.workload.name}: {times}" + (f"; {ratio:.2f} × the best peer" if ratio else "")

    def markdown(self) -> str:
        """Return the table, the notes below it, and how each was called."""
        columns = [name for name in self.versions if name != OURS and self._takes_part(name)]
        head = ["workload", *columns, OURS, "best peer / attnlib", "of ceiling", "targets"]
        lines = [
            "# attnlib and its peers",
            "",
            "Times in microseconds: medians of the best block ± half the interquartile range; ~: of a short "
            "trial, in which the peer was far from the best. A precision stands where it is another one.",
            "",
            _row(head),
            "|---" + "|---:" * (len(head) - 2) + "|---|",
            *(_row(self._cells(result, columns)) for result in self.table),
            "",
            *(f"- {line}" for line in (*self._standing(), *self._notes())),
            "",
            "## How each was called",
            "",
            *(f"- {line}" for line in self._ways()),
        ]
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """Return what was reached, in a few lines."""
        return "\n".join(self._standing())

    def json(self) -> str:
        """Return everything, each block included."""
        found = {
            "processor": processor(),
            "python": platform.python_version(),
            "versions": self.versions,
            "options": asdict(self.options),
            "geometric_mean": geometric_mean(self.ratios()) if self.ratios() else None,
            "geometric_mean_at_ceilings": geometric_mean(self.limits()) if self.limits() else None,
            "left_out": self.left_out,
            "workloads": [self._record(result) for result in self.results],
        }
        return json.dumps(found, indent=1, ensure_ascii=False) + "\n"

    def _takes_part(self, engine: str) -> bool:
        return any(result.fastest(engine) for result in self.table)

    def _record(self, result: Result) -> dict[str, Any]:
        workload, best = result.workload, result.fastest()
        return {
            "name": workload.name,
            "case": workload.case,
            "precision": workload.precision,
            "family": workload.family,
            "curve": workload.curve,
            "length": workload.length,
            "ceiling": workload.ceiling,
            "amount": workload.amount,
            "ceiling_per_second": self.ceiling(result),
            "share": result.share(self.ceiling(result)),
            "best_peer": str(best) if best else None,
            "ratio": result.ratio(),
            "cosine": result.cosine,
            "targets": [
                {
                    **asdict(verdict.target),
                    "measured": verdict.measured,
                    "met": verdict.met,
                    "at_the_ceiling": verdict.limit,
                }
                for verdict in self.verdicts(result)
            ],
            "left_out": result.left_out,
            "contestants": [
                {
                    "engine": who.engine,
                    "precision": who.precision,
                    "way": way,
                    "error": result.errors.get(who),
                    "seconds": result.seconds(who),
                    "blocks": [asdict(block) for block in result.timings[who].blocks]
                    if who in result.timings
                    else [],
                }
                for who, way in result.ways.items()
            ],
        }

    def _cells(self, result: Result, columns: list[str]) -> Iterator[str]:
        workload = result.workload
        yield workload.name
        for name in columns:
            peer = result.fastest(name)
            yield _time(result, peer) if peer else ""
        ours = Contestant(OURS, workload.precision)
        yield _time(result, ours) if ours in result.timings else ""
        ratio = result.ratio()
        yield f"{ratio:.2f}" if ratio else ""
        share = result.share(self.ceiling(result))
        yield f"{100 * share:.0f} % of {workload.ceiling}" if share else ""
        yield "; ".join(_told(verdict) for verdict in self.verdicts(result))

    def _standing(self) -> Iterator[str]:
        """Tell what was reached, and name what was not."""
        for family, least in GEOMETRIC_MEANS.items():
            if ratios := self.ratios(family):
                mean = geometric_mean(ratios)
                yield (
                    f"geometric mean of best peer / attnlib over {family or 'all'}: {mean:.2f} "
                    f"({_word(mean >= least)}: at least {least:.2f})"
                )
        if limits := self.limits():
            yield f"the same over all, were each at the ceiling that bounds it: {geometric_mean(limits):.2f}"
        families = {
            family: self.ratios(family) for family in dict.fromkeys(r.workload.family for r in self.table)
        }
        means = [f"{family} {geometric_mean(ratios):.2f}" for family, ratios in families.items() if ratios]
        if len(means) > 1:
            yield f"by family: {', '.join(means)}"
        low = [(r.ratio() or 0, r.workload.name) for r in self.table if r.ratio() is not None]
        if low:
            below = [f"{name} {ratio:.2f}" for ratio, name in sorted(low) if ratio < LEAST_RATIO]
            yield (
                f"least ratio: {min(low)[0]:.2f} ({_word(not below)}: at least {LEAST_RATIO:.2f} everywhere)"
                + (f"; below: {', '.join(below)}" if below else "")
            )
        all_verdicts = [(r.workload.name, verdict) for r in self.table for verdict in self.verdicts(r)]
        judged = [(name, verdict) for name, verdict in all_verdicts if verdict.met is not None]
        missed = [f"{name} ({_told(verdict)})" for name, verdict in judged if not verdict.met]
        forbidden = sum(verdict.forbidden for _, verdict in judged)
        yield f"targets met: {len(judged) - len(missed)} of {len(judged)}" + "".join(
            (
                f", {forbidden} beyond the machine's ceiling" if forbidden else "",
                f", {len(all_verdicts) - len(judged)} more without what they speak of"
                if len(judged) < len(all_verdicts)
                else "",
            )
        )
        yield from (f"missed: {text}" for text in missed)

    def _notes(self) -> Iterator[str]:
        yield f"{processor()}; threads: {self.options.threads}; Python {platform.python_version()}"
        yield ", ".join(f"{name} {version}" for name, version in self.versions.items())
        ceilings = {
            kind: max(found)
            for kind in (*COMPUTE, "memory")
            if (found := [r.ceiling for r in self.results if r.workload.ceiling == kind and r.ceiling])
        }
        if ceilings:
            told = (f"{kind} {rate / 1e9:,.0f} {_UNITS[kind]}" for kind, rate in ceilings.items())
            yield (
                f"ceilings: {', '.join(told)}; a share of the cache is of reading as many bytes over and "
                "over from wherever they live"
            )
        timings = [timing for result in self.results for timing in result.timings.values()]
        if timings:
            drifts = [100 * timing.drift for timing in timings]
            yield (
                f"blocks of each: {self.options.rotations}, where they disagree up to "
                f"{self.options.most_rotations}; worst over best: {median(drifts):.0f} % in the median, "
                f"{max(drifts):.0f} % at most"
            )
            yield disturbance([block for timing in timings for block in timing.blocks])
        yield from self.left_out

    def _ways(self) -> Iterator[str]:
        for result in self.results:
            ways = [f"{who}: {way} (error {result.errors[who]:.0e})" for who, way in result.ways.items()]
            ways += [f"left out: {reason}" for reason in result.left_out]
            cosine = f"; least cosine of attnlib {result.cosine:.5f}" if result.cosine is not None else ""
            yield f"{result.workload.name}: {'; '.join(ways)}{cosine}"


def _row(cells: list[str] | Iterator[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _time(result: Result, who: Contestant) -> str:
    tag = "" if who.precision == result.workload.precision else f" {_SHORT.get(who.precision, who.precision)}"
    if who not in result.timings:
        return f"~{result.trials[who] * 1e6:,.0f}{tag}"
    timing = result.timings[who]
    return f"{timing.seconds * 1e6:,.0f} ±{50 * timing.spread:.0f} %{tag}"


def _told(verdict: Verdict) -> str:
    target, measured = verdict.target, verdict.measured
    if target.kind == "share":
        least, found = f"{100 * target.least:.0f} %", None if measured is None else f"{100 * measured:.0f} %"
    elif target.kind == "cosine":
        least, found = f"cosine {target.least}", None if measured is None else f"{measured:.5f}"
    else:
        least = f"{target.least:.2f} × {_peer(target)}"
        found = None if measured is None else f"{measured:.2f}"
    if found is None:
        return f"≥ {least}: not measured"
    ceiling = f" (at the ceiling: {verdict.limit:.2f})" if verdict.forbidden else ""
    return f"{found} ≥ {least}: {_word(bool(verdict.met))}{ceiling}"


def _peer(target: Target) -> str:
    return " ".join(word for word in (target.peer or "best", target.precision) if word)


def _word(met: bool) -> str:
    return "met" if met else "missed"
