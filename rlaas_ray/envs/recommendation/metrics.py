"""What a slate is worth: objectives, modes, costs, conversion, intra-list diversity, and the rates of a set of sessions.

Called by dynamics.py, baselines.py and problem.py. Pure arithmetic, no draw and no state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs import modes
from rlaas_ray.envs.recommendation import choice
from rlaas_ray.specs.arrays import F64, I64

OBJECTIVES = [("ctr", "1", "max"), ("cvr", "1", "max"), ("diversity", "1", "max")]
NAMES = tuple(name for name, _, _ in OBJECTIVES)
WATCH = "watch"
MODES: Mapping[str, tuple[float, float, float]] = {
    "revenue_focused": (0.4, 0.3, 0.3),
    "engagement": (0.7, 0.1, 0.2),
    "discovery": (0.2, 0.1, 0.7),
}
MODE_NAMES = (WATCH, *MODES)
COSTS, COST_LIMITS = ("trashy", "monotony"), (0.25, 0.20)
METADATA = {"costs": list(COSTS), "cost_limits": list(COST_LIMITS), "modes": list(MODE_NAMES)}
_CONVERSION = (-2.0, 1.0, 0.5)  # of 1, interest, quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Of a set of sessions, each a ratio of sums: clicks a step, conversions a click, diversity a step."""

    ctr: float
    cvr: float
    diversity: float


def weights_of(mode: str, *, weights: modes.Given | None) -> tuple[float, ...] | None:
    """The weights of ctr, cvr, diversity; None where the reward is minutes watched. Given weights replace any mode's."""
    known = {WATCH: (0.0, 0.0, 0.0), **MODES}
    found = modes.weights_of(mode, weights=weights, modes=known, names=NAMES, shares=True)
    return None if mode == WATCH and weights is None else found


def conversion(interest: F64, quality: F64) -> F64:
    """Probability that a click converts: sigmoid(-2 + I + q/2), I before the click's own effect. Our model; same shape."""
    bias, of_interest, of_quality = _CONVERSION
    return 1.0 / (1.0 + np.exp(-(bias + of_interest * interest + of_quality * quality)))


def diversity(topic: I64) -> F64:
    """Intra-list diversity: 1 - mean cosine of the pairs, which for one-hot features is the share of pairs that differ.

    topic (..., k) -> (...)
    """
    size = topic.shape[-1]
    pairs = choice.PAIRS if size == choice.SHOWN else tuple((i, j) for i in range(size) for j in range(i + 1, size))
    different = np.zeros(topic.shape[:-1])
    for i, j in pairs:
        different += topic[..., i] != topic[..., j]
    return different / len(pairs)


def rates(objectives: F64) -> Rates:
    """The rates of all steps of a set of sessions. objectives (steps, 3): clicked, converted, diversity."""
    clicks, conversions, diverse = (float(one) for one in objectives.sum(axis=0))
    steps = max(len(objectives), 1)
    return Rates(ctr=clicks / steps, cvr=conversions / max(clicks, 1.0), diversity=diverse / steps)
