"""When a search ends, and how hard it tries: the rules as values, the efforts as data (efforts.yaml).

Called by search.py after each generation. Pure: elapsed seconds are handed in, nothing here looks at a clock.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import yaml

from rlaas_ray.specs.arrays import F64
from rlaas_ray.specs.choose import Method
from rlaas_ray.specs.optimize import OptimizeSpec

Reason = Literal["generations", "evaluations", "time_limit", "target_hypervolume", "stagnation", "converged", "stop"]

# A search stalls when neither the volume nor the corners of its front moved over so many generations.
WINDOW = 30
SOONEST = 50  # generations that are done in any case
VOLUME_MOVED = 1e-4  # of the largest hypervolume of the window
CORNERS_MOVED = 1e-3  # of the range of each objective

_BUDGET = ("generations", "evaluations", "time_limit_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Each None or False is a rule that is not kept; whichever holds first ends the search."""

    generations: int | None = None
    evaluations: int | None = None
    time_limit_s: float | None = None
    target_hypervolume: float | None = None
    stagnation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard a search tries: its population, its rules, how its point is chosen."""

    population_size: int
    rules: Rules
    choose: Method


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corners:
    """The ends of a front, minimised: the best and the worst value of each objective. (m,) each."""

    ideal: F64
    nadir: F64


@functools.cache
def efforts() -> Mapping[str, Mapping[str, Any]]:
    """Name -> what a search does where its spec is silent."""
    found: Mapping[str, Mapping[str, Any]] = yaml.safe_load(Path(__file__).with_name("efforts.yaml").read_text())
    return found


def effort(spec: OptimizeSpec) -> Effort:
    """What the spec says, and for the rest what its effort says.

    A budget of the user's (generations, evaluations, time limit) takes the place of the effort's whole budget: who asks for
    500 generations gets them, also where the effort alone would end after five seconds.
    """
    told = efforts()[spec.effort]
    given = {name: getattr(spec, name) for name in _BUDGET}
    if all(value is None for value in given.values()):
        given = {name: told.get(name) for name in _BUDGET}
    stagnation = spec.stagnation if spec.stagnation is not None else bool(told["stagnation"])
    return Effort(
        population_size=spec.population_size or int(told["population_size"]),
        rules=Rules(**given, target_hypervolume=spec.target_hypervolume, stagnation=stagnation),
        choose=spec.choose or cast("Method", told["choose"]),
    )


def reason(
    rules: Rules, *, evaluations: int, elapsed_s: float, trace: Sequence[float], corners: Sequence[Corners]
) -> Reason | None:
    """Why the search ends here, or None. `trace` has the hypervolume of every generation, `corners` those of the last ones."""
    generations = len(trace)
    if rules.target_hypervolume is not None and trace and trace[-1] >= rules.target_hypervolume:
        return "target_hypervolume"
    if rules.generations is not None and generations >= rules.generations:
        return "generations"
    if rules.evaluations is not None and evaluations >= rules.evaluations:
        return "evaluations"
    if rules.time_limit_s is not None and elapsed_s >= rules.time_limit_s:
        return "time_limit"
    return "stagnation" if rules.stagnation and stalled(trace, corners) else None


def stalled(trace: Sequence[float], corners: Sequence[Corners]) -> bool:
    """Whether the last 30 generations brought nothing: less than 1e-4 of volume, less than 1e-3 of range at the corners."""
    if len(trace) < SOONEST or len(corners) <= WINDOW:
        return False
    recent = np.asarray(trace[-WINDOW - 1 :], dtype=np.float64)
    if not np.isfinite(recent).all():
        return False
    most = float(recent.max())
    if (most - recent[0]) / max(abs(most), 1e-12) >= VOLUME_MOVED:
        return False
    then, now = corners[-WINDOW - 1], corners[-1]
    span = now.nadir - now.ideal
    moved = np.maximum(np.abs(now.ideal - then.ideal), np.abs(now.nadir - then.nadir))
    return bool((moved < CORNERS_MOVED * np.where(span > 0, span, 1.0)).all())


def words(why: Reason, *, rules: Rules, generations: int, evaluations: int, elapsed_s: float) -> str:
    """The reason for people."""
    said: Mapping[Reason, str] = {
        "generations": f"all {generations:,} generations are done",
        "evaluations": f"{evaluations:,} evaluations are done, {rules.evaluations or 0:,} were asked for",
        "time_limit": f"the time limit of {rules.time_limit_s or 0:g} s is reached after {elapsed_s:.1f} s",
        "target_hypervolume": f"the hypervolume of {rules.target_hypervolume or 0:g} that was asked for is reached",
        "stagnation": f"the front has not moved over the last {WINDOW} of {generations:,} generations",
        "converged": f"the algorithm asks for no more rows after {generations:,} generations",
        "stop": f"stopped after {generations:,} generations",
    }
    return said[why]


def left(
    rules: Rules, *, generations: int, evaluations: int, elapsed_s: float, done: bool
) -> tuple[float, float | None]:
    """How far the search is, in [0, 1], and the seconds left by the budget that ends first; None where none is set."""
    if done:
        return 1.0, 0.0
    shares = [
        spent / budget
        for spent, budget in (
            (generations, rules.generations),
            (evaluations, rules.evaluations),
            (elapsed_s, rules.time_limit_s),
        )
        if budget is not None
    ]
    if not shares:
        return 0.0, None
    share = min(max(shares), 1.0)
    return share, elapsed_s * (1.0 - share) / share if share > 0 else None
