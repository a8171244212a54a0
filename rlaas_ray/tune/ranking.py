"""Which trial is better: by one objective and the bound of its interval over seeds, or by dominance; feasible ones first.

Used by the samplers, for the choice of the winner, and by the analysis. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rlaas_ray.evaluation import intervals
from rlaas_ray.tune.journal import Trial


def ranked(trials: Sequence[Trial], *, maximise: Sequence[bool]) -> list[Trial]:
    """Completed trials, best first: feasible ones; then by `bound` of one objective, or by how many dominate a trial."""
    done = [trial for trial in trials if trial.state == "completed" and trial.values is not None]
    if len(maximise) == 1:
        up = maximise[0]
        return sorted(done, key=lambda t: (not t.feasible, -bound(t, maximise=up) if up else bound(t, maximise=up)))
    ahead = {t.number: sum(dominates(o, t, maximise=maximise) for o in done) for t in done}
    return sorted(done, key=lambda t: (not t.feasible, ahead[t.number], t.number))


def best(trials: Sequence[Trial], *, maximise: Sequence[bool]) -> Trial | None:
    """The first of `ranked`, if it is feasible."""
    first = next(iter(ranked(trials, maximise=maximise)), None)
    return first if first is not None and first.feasible else None


def front(trials: Sequence[Trial], *, maximise: Sequence[bool]) -> list[Trial]:
    """Feasible trials that no other feasible one dominates, by number."""
    done = [trial for trial in trials if trial.feasible and trial.values is not None]
    return [t for t in done if not any(dominates(o, t, maximise=maximise) for o in done)]


def dominates(one: Trial, other: Trial, *, maximise: Sequence[bool]) -> bool:
    """Whether `one` is nowhere worse and somewhere better."""
    pairs = list(zip(signed(one, maximise=maximise), signed(other, maximise=maximise), strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def signed(trial: Trial, *, maximise: Sequence[bool]) -> list[float]:
    """Values with the sign that makes larger better."""
    assert trial.values is not None
    return [value if up else -value for value, up in zip(trial.values, maximise, strict=True)]


def interval(trial: Trial) -> tuple[float, float] | None:
    """Bootstrap 95 % interval of the first objective over the seeds; None with fewer than two of them."""
    found = [float(seed["values"][0]) for seed in trial.seeds]
    if len(found) < 2:
        return None
    rng = np.random.default_rng([0, trial.number])
    told = intervals.bootstrap(np.asarray(found), rng=rng)
    return told.low, told.high


def bound(trial: Trial, *, maximise: bool) -> float:
    """What a trial is chosen by: the worse end of its interval, or the value of its only seed."""
    assert trial.values is not None
    ends = interval(trial)
    if ends is None:
        return trial.values[0]
    return ends[0] if maximise else ends[1]
