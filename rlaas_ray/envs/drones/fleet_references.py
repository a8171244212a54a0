"""What no fleet can exceed: every order that can still be delivered, as much of them as the drones have time for.

Called by scoring.py through fleet_baselines.py and by tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import fleet, queue, references, world
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.queue import FleetParams
from rlaas_ray.specs.arrays import F64


def bounded(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """The bound of the first episode of each world (episodes,), and no costs."""
    params = fleet.domain(mode=mode, **config).params
    return bound(params, philox.streams(seed, num_envs=episodes)), np.zeros((episodes, 0))


def bound(params: FleetParams, streams: philox.Streams) -> F64:
    """A fractional knapsack (B,) of the fleet's seconds, per drone.

    An order takes at least its leg from pickup to drop and is worth what it pays and that leg's progress; all other time is
    worth at most the progress of top speed; each drone may hold one order that it has picked up and not delivered.
    """
    zone = world.zones(params, streams)
    on_time, delivered, picked, per_m = params.weights[:4]
    end_s, drones = params.horizon * params.dt, params.drones
    idle_per_s = per_m * float(p.length(np.asarray(params.speed_mps)))
    found = []
    for b in range(len(streams.seed)):
        one = streams.take(slice(b, b + 1))
        items = []
        for pickup, drop, at_s in _orders(params, one, zone=zone[b : b + 1], end_s=end_s):
            least_s = references.leg_s(drop - pickup, params=params)
            if at_s + least_s <= end_s:
                progress = per_m * (float(p.length(drop - pickup)) + params.arrival_m)
                items.append((least_s, on_time + delivered + picked + progress))
        left_s, total = drones * end_s, drones * picked
        for least_s, worth in sorted(items, key=lambda item: -item[1] / item[0]):
            share = min(1.0, left_s / least_s) if worth > idle_per_s * least_s else 0.0
            total, left_s = total + share * worth, left_s - share * least_s
        found.append((total + left_s * idle_per_s) / drones)
    return np.asarray(found)


def _orders(params: FleetParams, one: philox.Streams, *, zone: F64, end_s: float) -> list[tuple[F64, F64, float]]:
    """All that arrive within the episode, whether the queue has room for them or not."""
    made: list[tuple[F64, F64, float]] = []
    number, at_s = 0, 0.0
    while True:
        if number >= params.orders_at_start:
            at_s += queue.gap_s(params, one, number=np.asarray([number]))[0]
            if at_s > end_s:
                return made
        pickup, drop, _ = world.orders(params, one, number=np.asarray([number]), zone=zone)
        made.append((pickup[0], drop[0], float(at_s)))
        number += 1
