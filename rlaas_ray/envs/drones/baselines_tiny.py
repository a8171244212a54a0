"""Baselines of the tiny drone: random, and the exact optimum as a table over what is observed.

Found like those of DroneDelivery.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.drones import baselines, observation, tiny
from rlaas_ray.envs.drones import params as p
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64

_POINT = heads.Point(entries=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best of three at each of the states, read back from the observation."""

    drift: float = tiny.DRIFT
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Actions (n, 3)."""
        _, plan, _ = tiny.solve(drift=self.drift)
        t = tiny.STEPS - _whole(observations[:, observation.DEADLINE] * tiny.STEPS)
        phase = np.where(observations[:, observation.PHASE + p.TO_DROP] > 0.5, p.TO_DROP, p.TO_PICKUP)
        x = _whole((observations[:, observation.POSITION] + 1.0) * (tiny.LAST / 2.0))
        v = _whole(observations[:, observation.VELOCITY] * tiny.TOP)
        e = _whole(observations[:, observation.CHARGE] * tiny.ENERGY)
        action = np.zeros((len(observations), 3), np.float32)
        action[:, 0] = plan[t, phase, x, v + tiny.TOP, e]
        return action


def optimum(drift: float = tiny.DRIFT) -> builtin.Builtin:
    """The exact answer, for a drift."""
    return Optimum(drift=drift)


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {"random": baselines.random, "optimum": optimum}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {}
REFERENCE = "optimum"


def card(_mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card; there is one mode."""
    return {"random": baselines.random(), "optimum": optimum()}


def _whole(values: F32) -> np.ndarray:
    return np.rint(values).astype(np.int64)
