"""What no drone can exceed: orders are exogenous, so everything but kinematics is relaxed.

Called by scoring.py through baselines.py and by tests. Sees the simulator's orders; plays nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import env, mission, world
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.specs.arrays import F64

_MOST_ORDERS = 64
Reached = tuple[float, float]  # seconds spent, value so far


def bounded(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """The bound of the first episode of each world (episodes,), and no costs."""
    params = env.domain(mode=mode, **config).params
    streams = philox.streams(seed, num_envs=episodes)
    return bound(params, streams), np.zeros((episodes, 0))


def bound(params: DroneParams, streams: philox.Streams) -> F64:
    """Of the episodes that these streams name (B,)."""
    state = env.reset_batch(params, streams)
    known = _orders(params, streams, zone=state["zone"])
    starts = state["position"]
    return np.asarray(
        [
            _best(params, start, orders=[tuple(one[b] for one in order) for order in known])
            for b, start in enumerate(starts)
        ]
    )


def leg_s(way: F64, *, params: DroneParams) -> float:
    """The least time for a leg (3,): each axis alone, gusts helping, from up to 2 m/s to no need of a stop; never below dt.

    tau = sqrt(2 d / G) within the way of speeding up, else d / V + V / (2 G); less 2 / G for the start; d less both radii.
    """
    least = params.dt
    for axis in range(3):
        push = 1.08 * params.acceleration_mps2[axis]
        top = params.speed_mps[axis]
        far = max(abs(float(way[axis])) - 2.0 * params.arrival_m, 0.0)
        tau = math.sqrt(2.0 * far / push) if far < top * top / (2.0 * push) else far / top + top / (2.0 * push)
        least = max(least, tau - params.arrival_mps / push)
    return least


def _orders(params: DroneParams, streams: philox.Streams, *, zone: F64) -> list[tuple[F64, F64]]:
    """Pickups and drops (B, 3) of the orders in turn, more than any drone can deliver."""
    shortest = 2.0 * params.dt
    count = min(_MOST_ORDERS, 1 + int(params.horizon * params.dt / shortest))
    made = []
    for number in range(count):
        pickup, drop, _ = world.orders(params, streams, number=np.full(len(streams.seed), number), zone=zone)
        made.append((pickup, drop))
    return made


def _best(params: DroneParams, start: F64, *, orders: list[tuple[Any, ...]]) -> float:
    """Over all choices of charging between orders, which costs time and is paid for its progress; a front of (time, value)."""
    end_s = params.horizon * params.dt
    on_time, delivered, picked, per_m = params.weights[:4]
    leg = functools.partial(_leg, params=params, end_s=end_s, per_m=per_m)
    fronts: list[Reached] = [(0.0, 0.0)]
    best, place = 0.0, start
    for number, (pickup, drop) in enumerate(orders):
        ways = [[(place, pickup, 0.0, picked), (pickup, drop, 0.0, on_time + delivered)]]
        if number:
            pad = p.pad_of(params, place[None])[0]
            charge_s = _charge_s(params, place=place, pickup=pickup, drop=drop)
            ways.append(
                [(place, pad, charge_s, 0.0), (pad, pickup, 0.0, picked), (pickup, drop, 0.0, on_time + delivered)]
            )
        reached: list[Reached] = []
        for now in fronts:
            for way in ways:
                spent: Reached = now
                for there in way:
                    after, seen = leg(spent, there)
                    best = max(best, seen)
                    if after is None:
                        break
                    spent = after
                else:
                    reached.append(spent)
        fronts, place = _front(reached), drop
        if not fronts:
            return best
    raise AssertionError("more orders than the bound foresees can be delivered")


def _leg(
    now: Reached, there: tuple[Any, ...], *, params: DroneParams, end_s: float, per_m: float
) -> tuple[Reached | None, float]:
    """After one leg (from, to, time on the ground, value), and the value by the end of the episode if it ends within."""
    begin, target, ground_s, value = there
    progress = per_m * (float(p.length(target - begin)) + params.arrival_m)
    spent, worth = now[0] + leg_s(target - begin, params=params), now[1] + progress
    if spent > end_s:
        return None, worth
    return (spent + ground_s, worth + value), worth + value


def _charge_s(params: DroneParams, *, place: F64, pickup: F64, drop: F64) -> float:
    """The least time at the pad: from the most charge with which it is sent there to what releases it."""
    need = float(mission.need_j(params, position=place[None], pickup=pickup[None], drop=drop[None])[0])
    most = p.NEED_MARGIN * (need + p.CRUISE_J_PER_M * params.arrival_m)
    return max((mission.FULL * params.energy_j - most) / (params.energy_j / params.refill_s) - params.dt, 0.0)


def _front(reached: list[Reached]) -> list[Reached]:
    """Those that no other beats in both time and value."""
    kept: list[Reached] = []
    for spent, value in sorted(reached, key=lambda one: (one[0], -one[1])):
        if not kept or value > kept[-1][1]:
            kept.append((spent, value))
    return kept
