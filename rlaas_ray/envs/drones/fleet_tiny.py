"""DroneFleet-tiny-v1: three drones at rest, three orders known at t = 0, no weather, no zones; exact by trying 3! assignments.

Called by the registry and found as its baselines' module too. The best assignment is that of the pilot `pd_field`, by
simulation.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.drones import baselines, env, fleet, fleet_baselines
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F64

DRONES, STEPS = 3, 400
WORLD: Mapping[str, Any] = {
    "drones": DRONES,
    "orders_at_start": DRONES,
    "order_every_s": 0.0,
    "horizon": STEPS,
    "zones": 0,
    "wind_mps": (0.0, 0.0),
    "gust_mps": (0.0, 0.0, 0.0),
    "start_charge": (1.0, 1.0),
    "payload_kg": (1.0, 1.0),
}


def domain(*, mode: str | None = None, weights: modes.Given | None = None, **config: Any) -> fleet.DroneFleet:
    """The domain; `assignment` and `plan` as in DroneFleet."""
    return fleet.domain(mode=mode, weights=weights, **{**WORLD, **config})


def random() -> builtin.Builtin:
    """Uniform accelerations."""
    size = DRONES * env.ACTION
    return builtin.Uniform(head=heads.UniformBox(low=(-1.0,) * size, high=(1.0,) * size))


def pd_field() -> builtin.Builtin:
    """`pd_field` in three cockpits, sent by the Hungarian method."""
    return fleet_baselines.crew(baselines.pd_field(), drones=DRONES)


def best_assignment(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """The best of the six assignments in each world, by simulation, and its costs."""
    tried = [
        fleet_baselines.flown(
            domain(mode=mode, **{**config, "plan": plan}), pd_field(), streams=philox.streams(seed, num_envs=episodes)
        )
        for plan in itertools.permutations(range(DRONES))
    ]
    returns, costs = np.stack([one for one, _ in tried]), np.stack([one for _, one in tried])
    best, each = returns.argmax(axis=0), np.arange(episodes)
    return returns[best, each], costs[best, each]


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {"random": random, "pd_field": pd_field}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {"best_assignment": best_assignment}
REFERENCE = "best_assignment"
SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {"balanced": ("balanced", {})}


def card(_mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card."""
    return {name: factory() for name, factory in POLICIES.items()}
