"""What an interval is worth: objectives, the modes' rewards, LaStream's own formula, and the cost of late records.

Called by env.py and by the references. Pure; all arrays (B,).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs import modes
from rlaas_ray.specs.arrays import F64

LATE_S = 5.0
LAG_S = 60.0
LATE_BUDGET = 0.05
LASTREAM = "lastream"
OBJECTIVES = [
    ("shortfall", "1", "min"),
    ("lag", "s", "min"),
    ("latency", "s", "min"),
    ("instances", "1", "min"),
    ("rescales", "1", "min"),
]
NAMES = tuple(name for name, _, _ in OBJECTIVES)
# Weights of throughput, lag, latency, resources, change: those of `NAMES`, in their order.
MODES: Mapping[str, tuple[float, ...]] = {
    "balanced": (1.0, 0.5, 0.5, 0.5, 0.05),
    "throughput": (2.0, 1.0, 0.25, 0.1, 0.02),
    "latency": (1.0, 0.5, 1.5, 0.1, 0.02),
    "cost": (1.0, 0.25, 0.25, 1.5, 0.05),
}
# eta of latency, records in flight, instances, as the environment of LaStream uses them (its function's defaults: 0.4, 0.4, 0.2).
ETA = (1.0, 1.0, 0.5)
ETA_NAMES = ("latency", "in_flight", "instances")
THETA_MS, IN_FLIGHT, PER_OPERATOR = 100.0, 1000.0, 1.0
METADATA: Mapping[str, Any] = {"modes": [*MODES, LASTREAM], "costs": ["late"], "cost_limits": [LATE_BUDGET]}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measures:
    """What one interval measured.

    Records/s offered and served, lag in seconds of the offered rate, latency in seconds, records that wait in queues, instances
    of all operators together, how many operators are set, their largest count, and whether the job restarted.
    """

    offered: F64
    served: F64
    lag_s: F64
    latency_s: F64
    in_flight: F64
    instances: F64
    operators: int
    max_parallelism: int
    rescaled: F64

    @property
    def throughput(self) -> F64:
        """Served over offered, at most 1; 1 where nothing is offered."""
        share = np.divide(self.served, self.offered, out=np.ones_like(self.served), where=self.offered > 0.0)
        return np.minimum(share, 1.0)


def weights(mode: str, *, given: modes.Given | None) -> tuple[float, ...]:
    """The weights of a mode, or the given ones. Raises InvalidInput."""
    if mode == LASTREAM:
        return modes.weights_of(mode, weights=given, modes={LASTREAM: ETA}, names=ETA_NAMES, shares=False)
    known = {**MODES, LASTREAM: ETA}
    return modes.weights_of(mode, weights=given, modes=known, names=NAMES, shares=False)


def reward(mode: str, *, weight: tuple[float, ...], seen: Measures) -> F64:
    """(B,) the reward of an interval."""
    if mode == LASTREAM:
        return lastream(
            seen.latency_s * 1000.0,
            in_flight=seen.in_flight,
            instances=seen.instances,
            operators=seen.operators,
            eta=weight,
        )
    lag = np.minimum(seen.lag_s / LAG_S, 1.0)
    late = np.minimum(seen.latency_s / LATE_S, 1.0)
    resources = seen.instances / (seen.operators * seen.max_parallelism)
    return (
        weight[0] * seen.throughput
        - weight[1] * lag
        - weight[2] * late
        - weight[3] * resources
        - weight[4] * seen.rescaled
    )


def lastream(latency_ms: F64, *, in_flight: F64, instances: F64, operators: int, eta: tuple[float, ...]) -> F64:
    """exp(-(eta_l L/100 ms + eta_d D/1000 + eta_a/n sum a)/3): the reward of wmhadmin/LaStream (Real_wordcount.py).

    L latency in ms, D records in flight, a the instances of each of n operators.
    """
    late = eta[0] * latency_ms / THETA_MS
    waiting = eta[1] * in_flight / IN_FLIGHT
    used = eta[2] * instances / (operators * PER_OPERATOR)
    return np.exp(-(late + waiting + used) / 3.0)


def objectives(seen: Measures) -> F64:
    """(B, 5) in the order of OBJECTIVES, natural units."""
    return np.stack((1.0 - seen.throughput, seen.lag_s, seen.latency_s, seen.instances, seen.rescaled), axis=1)


def cost(seen: Measures) -> F64:
    """(B, 1): 1 where a record takes more than 5 s."""
    return (seen.latency_s > LATE_S).astype(np.float64)[:, None]
