"""One workload: who agrees on the result takes turns at computing it."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field

from attnlib.benchmark import lock
from attnlib.benchmark.agreement import Disagreement, check, least_cosine, relative_error, tolerance
from attnlib.benchmark.ceilings import Ceiling, Ceilings
from attnlib.benchmark.engines import OURS, PLAIN
from attnlib.benchmark.engines.engine import Array, Call, Engine
from attnlib.benchmark.measure import measure_block, measure_turns
from attnlib.benchmark.options import Options
from attnlib.benchmark.result import Contestant, Result
from attnlib.benchmark.workload import Inputs, Workload

__all__ = ["Contest", "Prepared"]

# Whose float32 result is the one to agree with: the formula written out, or else what most people use.
_REFERENCES = (PLAIN, "PyTorch", OURS)

# Seconds of an engine's ways in the trial that finds the fastest, and of the rest before each.
_TRIAL, _TRIAL_REST = 0.05, 0.03
# Calls that take longer are not tried again after their result was checked; a block of them is one call, and
# for the slowest one block is enough.
_SLOW, _SLOWEST = 2.0, 10.0
# A peer that takes so many times as long as the best one in the trial is left at that.
_HOPELESS = 1.5


# Ways that are not timed, by contestant and reason; none if it has no way at all.
LeftOut = dict[tuple[Contestant, str], list[str]]


@dataclass
class _Entry:
    """A way of a contestant that gave the right result."""

    who: Contestant
    call: Call
    error: float
    cosine: float
    seconds: float


@dataclass(frozen=True)
class Prepared:
    """A workload that only waits to be timed."""

    workload: Workload
    entries: list[_Entry]
    ceiling: Ceiling | None
    left_out: LeftOut


@dataclass(frozen=True)
class _Reference:
    """The result to agree with, and how it was found."""

    engine: str
    way: str
    array: Array
    seconds: float


@dataclass
class Contest:
    """All engines, ready for one workload after another.

    Attributes
    ----------
    engines : dict
    ceilings : Ceilings
    options : Options
    failures : list of str
        Where attnlib's result was not the right one.
    """

    engines: dict[str, Engine]
    ceilings: Ceilings
    options: Options
    failures: list[str] = field(default_factory=list)
    _references: dict[tuple[str, bool], _Reference] = field(default_factory=dict)

    def run(self, workload: Workload) -> Result:
        """Check that the engines agree, then time each one's fastest way, and the ceiling, in turns.

        Raises
        ------
        FileNotFoundError
            If the workload needs a model that is not there.
        """
        with lock.preparing():
            prepared = self.prepare(workload)
        return self.time(prepared)

    def prepare(self, workload: Workload) -> Prepared:
        """Make arrays and models, and check that the engines agree."""
        left_out: LeftOut = {}
        entries = self._all_prepared(workload, left_out)
        ceiling = self.ceilings.find(workload.ceiling, workload.amount)
        return Prepared(workload, entries, ceiling, left_out)

    def time(self, prepared: Prepared) -> Result:
        """Time each one's fastest way, and the ceiling, in turns."""
        workload, entries, ceiling = prepared.workload, prepared.entries, prepared.ceiling
        # The machine is kept for the whole workload, unless calls take seconds: then others get it between.
        slow = any(entry.seconds > _SLOW for entry in entries)
        whole, parts = (nullcontext, lock.timing) if slow else (lock.timing, nullcontext)
        with whole():
            with parts():
                best = self._tried(entries)
            timed = self._worth_timing(workload, best)
            functions: list[Callable[[], object]] = [entry.call.run for entry in timed]
            if ceiling:
                functions.append(ceiling.run)
            longest = max((entry.seconds for entry in timed), default=0.0)
            rotations = 1 if longest > _SLOWEST else 2 if longest > _SLOW else self.options.rotations
            timings = measure_turns(
                functions,
                rotations=min(rotations, self.options.rotations),
                most_rotations=None if slow else self.options.most_rotations,
                seconds=self.options.seconds,
                rest=self.options.rest,
                alone=parts,
            )
        ours = next((entry for entry in best if entry.who.engine == OURS), None)
        asked = any(target.kind == "cosine" for target in workload.targets)
        return Result(
            workload,
            timings={entry.who: timing for entry, timing in zip(timed, timings, strict=False)},
            trials={entry.who: entry.seconds for entry in best if entry not in timed},
            ways={entry.who: entry.call.way for entry in best},
            errors={entry.who: entry.error for entry in best},
            ceiling=ceiling.amount / timings[-1].seconds if ceiling else None,
            cosine=ours.cosine if ours and asked else None,
            left_out=tuple(
                ": ".join(part for part in (str(who), ", ".join(ways), reason) if part)
                for (who, reason), ways in prepared.left_out.items()
            ),
        )

    def fastest(self, workload: Workload) -> tuple[Contestant, Call] | None:
        """Return the fastest way of all, found by a short trial; None if no engine has the operation."""
        entries = self._tried(self._all_prepared(workload, {}))
        if not entries:
            return None
        best = min(entries, key=lambda entry: entry.seconds)
        return best.who, best.call

    def _all_prepared(self, workload: Workload, left_out: LeftOut) -> list[_Entry]:
        inputs = workload.inputs()
        expected = self._expected(workload, inputs)
        if expected is None:
            return []
        return [
            entry
            for who in self._contestants(workload)
            for entry in self._prepared(who, workload, inputs, expected, left_out)
        ]

    def _contestants(self, workload: Workload) -> list[Contestant]:
        return [
            Contestant(name, precision)
            for name in self.engines
            for precision in ((workload.precision,) if name == OURS else workload.peer_precisions)
        ]

    def _expected(self, workload: Workload, inputs: Inputs) -> _Reference | None:
        """Compute the result to agree with; that of the case before is kept, for its other precisions."""
        same_inputs = workload.operation in ("model", "encode") or workload.precision != "bfloat16"
        key = (workload.case, same_inputs)
        if key not in self._references:
            self._references.clear()
            for name in filter(self.engines.get, (*_REFERENCES, *self.engines)):
                if calls := self.engines[name].calls(workload.operation, "float32", inputs):
                    start = time.perf_counter()
                    result = calls[0].run()
                    seconds = time.perf_counter() - start
                    array = calls[0].array(result).copy()
                    self._references[key] = _Reference(name, calls[0].way, array, seconds)
                    break
        return self._references.get(key)

    def _prepared(
        self,
        who: Contestant,
        workload: Workload,
        inputs: Inputs,
        expected: _Reference,
        left_out: LeftOut,
    ) -> list[_Entry]:
        """Return the ways that give the right result; others are told in `left_out`."""
        entries = []
        try:
            calls = self.engines[who.engine].calls(workload.operation, who.precision, inputs)
        except Exception as error:  # of any library: what it cannot do is no reason to measure nothing
            left_out[who, _first_line(error)] = []
            return []
        for call in calls:
            if (who.engine, who.precision, call.way) == (expected.engine, "float32", expected.way):
                entries.append(_Entry(who, call, 0.0, 1.0, expected.seconds))
                continue
            start = time.perf_counter()
            try:
                found = check(call, expected.array, tolerance(workload.operation, who.precision))
            except Exception as error:
                left_out.setdefault((who, _first_line(error)), []).append(call.way)
                if who.engine == OURS and isinstance(error, Disagreement):
                    self.failures.append(f"{workload.name}: {error}")
                continue
            seconds = time.perf_counter() - start
            error_of_norm = relative_error(found, expected.array)
            entries.append(_Entry(who, call, error_of_norm, least_cosine(found, expected.array), seconds))
        return entries

    def _tried(self, entries: list[_Entry]) -> list[_Entry]:
        """Return the fastest way of each contestant, by a short trial."""
        best: dict[Contestant, _Entry] = {}
        for entry in entries:
            if entry.seconds < _SLOW:
                time.sleep(min(_TRIAL_REST, self.options.rest))
                entry.seconds = measure_block(entry.call.run, min(_TRIAL, self.options.seconds)).median
            if entry.who not in best or entry.seconds < best[entry.who].seconds:
                best[entry.who] = entry
        return list(best.values())

    def _worth_timing(self, workload: Workload, best: list[_Entry]) -> list[_Entry]:
        """Leave out peers that cannot be the best one, unless a target names them."""
        peers = [entry.seconds for entry in best if entry.who.engine != OURS]
        if workload.curve or not peers:
            return best
        limit = _HOPELESS * min(peers)
        return [
            entry
            for entry in best
            if entry.who.engine == OURS
            or entry.seconds <= limit
            or any(
                target.peer == entry.who.engine and target.precision in (None, entry.who.precision)
                for target in workload.targets
            )
        ]


def _first_line(error: Exception) -> str:
    text = str(error).strip().split("\n", 1)[0] or type(error).__name__
    return text if isinstance(error, Disagreement) else f"{type(error).__name__}: {text[:160]}"
