"""What came of a workload, and how it stands against what is expected."""

from __future__ import annotations

from dataclasses import dataclass, field

from attnlib.benchmark.engines import OURS
from attnlib.benchmark.measure import Timing
from attnlib.benchmark.workload import Target, Workload

__all__ = ["Contestant", "Result", "Verdict"]


@dataclass(frozen=True)
class Contestant:
    """A library that computes in a precision."""

    engine: str
    precision: str

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Verdict:
    """A target beside what was measured; None if what it speaks of was not there.

    Attributes
    ----------
    target : Target
    measured : float or None
    limit : float or None
        The ratio that would have been measured, had attnlib reached the machine's ceiling; None for other
        targets, and where the ceiling bounds nothing.
    """

    target: Target
    measured: float | None
    limit: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it was reached."""
        return None if self.measured is None else self.measured >= self.target.least

    @property
    def forbidden(self) -> bool:
        """Whether it was missed and the machine's ceiling lies below it."""
        return self.met is False and self.limit is not None and self.limit < self.target.least


@dataclass(frozen=True)
class Result:
    """What a workload took.

    Attributes
    ----------
    timings : dict
        Of those that were timed in turns.
    trials : dict
        Seconds in a first trial, of peers so much slower than the best one that it was left at that.
    ways : dict
        How each was called.
    errors : dict
        Norm of the difference to the expected result, as a share of its norm.
    ceiling : float or None
        Operations or bytes per second that the machine could do, measured in turns with the engines.
    cosine : float or None
        The smallest one between attnlib's rows and the expected ones, if a target asks for it.
    left_out : tuple of str
        Who was not timed, and why.
    """

    workload: Workload
    timings: dict[Contestant, Timing]
    trials: dict[Contestant, float] = field(default_factory=dict)
    ways: dict[Contestant, str] = field(default_factory=dict)
    errors: dict[Contestant, float] = field(default_factory=dict)
    ceiling: float | None = None
    cosine: float | None = None
    left_out: tuple[str, ...] = ()

    @property
    def ours(self) -> float | None:
        """Seconds of attnlib."""
        timing = self.timings.get(Contestant(OURS, self.workload.precision))
        return timing.seconds if timing else None

    def fastest(self, engine: str | None = None, precision: str | None = None) -> Contestant | None:
        """Return the fastest peer: of all, of an engine, or of that in a precision; timed ones first."""
        for seconds in ({who: timing.seconds for who, timing in self.timings.items()}, self.trials):
            found = {
                who: value
                for who, value in seconds.items()
                if who.engine != OURS and engine in (None, who.engine) and precision in (None, who.precision)
            }
            if found:
                return min(found, key=lambda who: found[who])
        return None

    def seconds(self, who: Contestant) -> float:
        """Return what it took, timed or in the trial."""
        return self.timings[who].seconds if who in self.timings else self.trials[who]

    def ratio(self, engine: str | None = None, precision: str | None = None) -> float | None:
        """Return how many times as long as attnlib a peer takes: the best one, or an engine."""
        peer = self.fastest(engine, precision)
        if self.ours is None or peer is None:
            return None
        return self.seconds(peer) / self.ours

    def share(self, ceiling: float | None) -> float | None:
        """Return what attnlib gets done per second, as a share of the ceiling."""
        if self.ours is None or not ceiling or not self.workload.amount:
            return None
        return self.workload.amount / self.ours / ceiling

    def limit(self, ratio: float | None, ceiling: float | None) -> float | None:
        """Return what a ratio of attnlib would be if it reached the ceiling; None if that bounds nothing.

        What reads caches is no such bound for what also writes, nor is memory for what caches hold in part.
        """
        share = self.share(ceiling)
        if ratio is None or share is None or self.workload.ceiling == "cache" or share > 1:
            return None
        return ratio / share

    def verdicts(self, ceiling: float | None) -> list[Verdict]:
        """Hold what was measured against the workload's targets; `ceiling` is that of the whole run."""
        return [self._verdict(target, ceiling) for target in self.workload.targets]

    def _verdict(self, target: Target, ceiling: float | None) -> Verdict:
        if target.kind == "share":
            return Verdict(target, self.share(ceiling))
        if target.kind == "cosine":
            return Verdict(target, self.cosine)
        ratio = self.ratio(target.peer, target.precision)
        return Verdict(target, ratio, self.limit(ratio, ceiling))
