"""Baselines of DroneFleet: the lone drone's pilots in every cockpit, under each assignment, and the bound.

Found through the entry-point group `rlaas.baselines` and envs/registry.py. Assignment is the env's: a policy flies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import baselines, env, fleet, fleet_references, observation
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64

DRONES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """One pilot's rules for every drone."""

    pilot: builtin.Builtin
    head: heads.Head

    def distribution(self, observations: F32) -> F32:
        """Actions (n, drones * 3) of observations (n, drones * 32)."""
        flown = self.pilot.distribution(observations.reshape(-1, observation.SIZE))
        return flown.reshape(len(observations), -1)


def crew(pilot: builtin.Builtin, *, drones: int = DRONES) -> builtin.Builtin:
    """The pilot in every cockpit."""
    return Crew(pilot=pilot, head=heads.Point(entries=drones * env.ACTION))


def random() -> builtin.Builtin:
    """Uniform accelerations."""
    return _uniform(DRONES)


def pd() -> builtin.Builtin:
    """`pd` of the lone drone."""
    return crew(baselines.pd())


def pd_fast() -> builtin.Builtin:
    """`pd_fast` of the lone drone."""
    return crew(baselines.pd_fast())


def pd_field() -> builtin.Builtin:
    """`pd_field` of the lone drone: each keeps away from zones and the others."""
    return crew(baselines.pd_field())


def played(
    pilot: Callable[[], builtin.Builtin], *, mode: str, seed: int, episodes: int, config: Mapping[str, Any]
) -> tuple[F64, F64]:
    """Returns (episodes,) and mean costs (episodes, 3) of a crew on the first episode of each world."""
    made = fleet.domain(mode=mode, **config)
    return flown(made, pilot(), streams=philox.streams(seed, num_envs=episodes))


def flown(made: fleet.DroneFleet, policy: builtin.Builtin, *, streams: philox.Streams) -> tuple[F64, F64]:
    """Returns (B,) and mean costs (B, 3) of a deterministic policy."""
    state, seen, _ = made.reset(streams)
    count = len(streams.seed)
    total, spent, steps, on = np.zeros(count), np.zeros((count, 3)), np.zeros(count), np.ones(count, np.bool_)
    while on.any():
        action = policy.distribution(np.asarray(seen, dtype=np.float32).reshape(count, -1))
        shaped = action.reshape(count, -1, env.ACTION)
        state, seen, reward, cost, ended, cut, _ = made.step(state, made.check(shaped), streams=streams)
        total, spent, steps = total + reward * on, spent + cost * on[:, None], steps + on
        on &= ~(ended | cut)
    return total, spent / steps[:, None]


def under(
    assignment: str,
    pilot: Callable[[], builtin.Builtin],
    *,
    mode: str,
    seed: int,
    episodes: int,
    config: Mapping[str, Any],
) -> tuple[F64, F64]:
    """`played` with another assignment."""
    return played(pilot, mode=mode, seed=seed, episodes=episodes, config={**config, "assignment": assignment})


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "pd": pd,
    "pd_fast": pd_fast,
    "pd_field": pd_field,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {
    "nearest+pd": functools.partial(under, "nearest", pd),
    "nearest+pd_field": functools.partial(under, "nearest", pd_field),
    "auction+pd_field": functools.partial(under, "auction", pd_field),
    "bound": fleet_references.bounded,
}
REFERENCE = "pd_field"
SETTINGS: Mapping[str, tuple[str, Mapping[str, Any]]] = {"balanced": ("balanced", {})}
SLOW = {"nearest+pd": 5, "nearest+pd_field": 5, "auction+pd_field": 5}


def card(_mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card, under the default assignment (hungarian)."""
    return {name: factory() for name, factory in POLICIES.items()}


def _uniform(drones: int) -> builtin.Builtin:
    size = drones * env.ACTION
    return builtin.Uniform(head=heads.UniformBox(low=(-1.0,) * size, high=(1.0,) * size))
