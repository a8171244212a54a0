"""Who is stopped early: asynchronous successive halving, and the median rule. Pure: told reports in order, they answer.

Called by study.py for each report of a trial; replayed from the journal after a restart. The larger value is the better one here:
the caller turns it where smaller is better. Populations are in population.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Protocol

from rlaas_ray.specs.tune import Scheduler


class Rule(Protocol):
    """One way to stop trials early."""

    def stops(self, trial: int, *, step: int, value: float) -> bool:
        """Whether the trial that reports `value` at `step` ends here."""
        ...

    def ended(self, trial: int, *, value: float) -> None:
        """The trial has used its whole budget."""
        ...


class NoRule:
    """Nobody is stopped."""

    def stops(self, trial: int, *, step: int, value: float) -> bool:
        return False

    def ended(self, trial: int, *, value: float) -> None:
        return None


class Halving:
    """ASHA (Li et al. 2020), in the form that stops instead of pausing.

    Rungs are at grace * eta^k reports; at each the best 1/eta of those that have come so far go on, and always the best one.
    """

    def __init__(self, *, grace: int, eta: int, reports: int) -> None:
        rungs = []
        rung = grace
        while rung < reports:
            rungs.append(rung)
            rung *= eta
        self._eta = eta
        self._rungs: Mapping[int, dict[int, float]] = {rung: {} for rung in rungs}

    @property
    def rungs(self) -> list[int]:
        """In reports."""
        return list(self._rungs)

    def stops(self, trial: int, *, step: int, value: float) -> bool:
        reached = [found for rung, found in self._rungs.items() if rung <= step and trial not in found]
        for found in reached:
            found[trial] = value
        return any(self._out(found, value=value) for found in reached)

    def ended(self, trial: int, *, value: float) -> None:
        """One that ended before its budget, because it was good enough, is counted at each rung that it did not see."""
        for found in self._rungs.values():
            found.setdefault(trial, value)

    def _out(self, found: Mapping[int, float], *, value: float) -> bool:
        better = sum(other > value for other in found.values())
        return better >= max(1, len(found) // self._eta)


class Median:
    """The median rule (Golovin et al. 2017): out is whose best value so far is below the median of the others' running means."""

    def __init__(self, *, grace: int, startup: int) -> None:
        self._grace, self._startup = grace, startup
        self._values: dict[int, list[tuple[int, float]]] = {}
        self._done: set[int] = set()

    def stops(self, trial: int, *, step: int, value: float) -> bool:
        own = self._values.setdefault(trial, [])
        own.append((step, value))
        if step < self._grace or len(self._done) < self._startup:
            return False
        means = [
            statistics.fmean(seen)
            for other, reports in self._values.items()
            if other in self._done and other != trial and (seen := [v for s, v in reports if s <= step])
        ]
        return bool(means) and max(v for _, v in own) < statistics.median(means)

    def ended(self, trial: int, *, value: float) -> None:
        self._done.add(trial)


def of(spec: Scheduler, *, reports: int) -> Rule:
    """The rule of a spec's scheduler."""
    if spec.kind == "asha":
        return Halving(grace=spec.grace, eta=spec.eta, reports=reports)
    if spec.kind == "median":
        return Median(grace=spec.grace, startup=spec.startup)
    return NoRule()
