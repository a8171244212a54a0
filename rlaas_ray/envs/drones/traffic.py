"""Scripted traffic: straight legs at 10 m/s, one altitude layer each, braking wherever a stopping row would be broken.

Called by env.py. The row is that of the stopping barrier with half share, per-axis braking as the backup: hulls of braking
drones stay `separation + pad` apart. Layers are 15 m apart, more than that, and these drones neither climb nor sink: rows among
them always hold, so only the row against the learner is computed. They do not mind zones.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import dynamics
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.specs.arrays import F64, I64, Bool

BRAKING = 0.9  # share of the acceleration limit that the hulls count on
PAD_M = 0.5
SHARE = 0.5
_TURN_M = 10.0  # a leg ends so near its end


def start(params: DroneParams, streams: philox.Streams) -> dict[str, Any]:
    """Positions, velocities (B, K, 3), ends of the first legs (B, K, 2) and their numbers (B, K)."""
    count, drones = len(streams.seed), params.traffic
    position, velocity = np.zeros((count, drones, 3)), np.zeros((count, drones, 3))
    goal = np.zeros((count, drones, 2))
    for k in range(drones):
        position[:, k, :2] = _points(params, streams, drone=np.full(count, k), leg=np.zeros(count, np.int64))
        position[:, k, 2] = p.TRAFFIC_LAYERS_M[k]
        goal[:, k] = _points(params, streams, drone=np.full(count, k), leg=np.ones(count, np.int64))
        way = goal[:, k] - position[:, k, :2]
        velocity[:, k, :2] = way * (p.TRAFFIC_MPS / np.maximum(p.length(way), 1e-9))[:, None]
    return {
        "traffic_position": position,
        "traffic_velocity": velocity,
        "traffic_goal": goal,
        "traffic_leg": np.ones((count, drones), np.int64),
    }


def advance(
    params: DroneParams, state: dict[str, Any], *, position: F64, velocity: F64, streams: philox.Streams
) -> dict[str, Any]:
    """One step of the traffic, proposed and braked on the learner's position and velocity before its own step (B, 3)."""
    count, drones = len(position), params.traffic
    place, speed = state["traffic_position"].reshape(-1, 3), state["traffic_velocity"].reshape(-1, 3)
    goal, leg = state["traffic_goal"].copy(), state["traffic_leg"].copy()
    limit = dynamics.tiled(params.acceleration_mps2, len(place))
    east, north = goal[..., 0].ravel() - place[:, 0], goal[..., 1].ravel() - place[:, 1]
    pull = p.TRAFFIC_MPS / np.maximum(np.sqrt(east * east + north * north), 1e-9)
    wanted = np.zeros_like(place)
    wanted[:, 0], wanted[:, 1] = east * pull, north * pull
    wanted = np.minimum(np.maximum((wanted - speed) * (1.0 / params.dt), -limit), limit)
    broken = np.flatnonzero(
        ~_clear(params, position=place, velocity=speed, other=position, moving=velocity, wanted=wanted)
    )
    brake = np.minimum(np.maximum(speed[broken] * (-1.0 / params.dt), -limit[broken]), limit[broken])
    made = wanted
    made[broken] = brake
    place = place + speed * params.dt + made * (0.5 * params.dt * params.dt)
    speed = speed + made * params.dt
    near = np.abs(place[:, 0] - goal[..., 0].ravel()) + np.abs(place[:, 1] - goal[..., 1].ravel()) < _TURN_M
    if near.any():
        _next_legs(params, goal=goal, leg=leg, turned=near.reshape(count, drones), streams=streams)
    return {
        "traffic_position": place.reshape(count, drones, 3),
        "traffic_velocity": speed.reshape(count, drones, 3),
        "traffic_goal": goal,
        "traffic_leg": leg,
    }


def _clear(params: DroneParams, *, position: F64, velocity: F64, other: F64, moving: F64, wanted: F64) -> Bool:
    """`row_holds` of traffic (B * K, 3) against the learners (B, 3), computed only where they are near enough for it to break."""
    drones = params.traffic
    top, dt = max(params.speed_mps[:2]), params.dt
    reach = 2.0 * float(stopping_m(params, 0, velocity=np.asarray(top))) + 2.0 * params.separation_m + 12.0 * top * dt
    each = position.reshape(-1, drones, 3)
    near = np.maximum(np.abs(each[..., 0] - other[:, 0:1]), np.abs(each[..., 1] - other[:, 1:2])) < reach
    rows = np.flatnonzero(near)
    clear = np.ones(len(position), np.bool_)
    clear[rows] = row_holds(
        params,
        position=position[rows],
        velocity=velocity[rows],
        other=other[rows // drones],
        moving=moving[rows // drones],
        wanted=wanted[rows],
    )
    return clear


def row_holds(params: DroneParams, *, position: F64, velocity: F64, other: F64, moving: F64, wanted: F64) -> Bool:
    """Whether proposals (n, 3) keep the stopping row of each drone against one other; sums over the axes in order.

    sum_k n_k m_k a_k <= c (G - D - pad) + sum_k |n_k| (e_k - f_k(L) + m_k L), f and e as in `_reach`.
    """
    gap = [_gap(params, k, position=position, velocity=velocity, other=other, moving=moving) for k in range(3)]
    apart = np.sqrt(gap[0] * gap[0] + gap[1] * gap[1] + gap[2] * gap[2])
    overlap = apart == 0.0
    if overlap.any():
        for k in range(3):
            gap[k] = np.where(overlap, other[:, k] - position[:, k], gap[k])
    norm = np.maximum(np.sqrt(gap[0] * gap[0] + gap[1] * gap[1] + gap[2] * gap[2]), 1e-9)
    left = -SHARE * (apart - params.separation_m - PAD_M)
    for k in range(3):
        sign, share = np.sign(gap[k]), np.abs(gap[k]) / norm
        left += share * _excess(params, k, velocity=sign * velocity[:, k], wanted=sign * wanted[:, k])
    return left <= 0.0


def stopping_m(params: DroneParams, axis: int, *, velocity: F64) -> F64:
    """Signed distance that braking takes on an axis, with half a step of zero-order hold."""
    capacity = BRAKING * params.acceleration_mps2[axis]
    return velocity * np.abs(velocity) * (0.5 / capacity) + velocity * (0.5 * params.dt)


def _gap(params: DroneParams, axis: int, *, position: F64, velocity: F64, other: F64, moving: F64) -> F64:
    """Signed gap between two hulls on an axis, positive towards the other; 0 where they overlap."""
    own, its = position[:, axis], other[:, axis]
    own_to = own + stopping_m(params, axis, velocity=velocity[:, axis])
    its_to = its + stopping_m(params, axis, velocity=moving[:, axis])
    ahead = np.minimum(its, its_to) - np.maximum(own, own_to)
    behind = np.minimum(own, own_to) - np.maximum(its, its_to)
    found: F64 = np.maximum(ahead, 0.0) - np.maximum(behind, 0.0)
    return found


def _excess(params: DroneParams, axis: int, *, velocity: F64, wanted: F64) -> F64:
    """`m a - (e - f(L) + m L)`: how much further towards the other the hull will reach than now, by the chord of f."""
    limit, top, dt = params.acceleration_mps2[axis], params.speed_mps[axis], params.dt
    low = np.maximum(-limit, (-top - velocity) * (1.0 / dt))
    high = np.minimum(limit, (top - velocity) * (1.0 / dt))
    at_low, at_high = (_reach(params, axis, velocity=velocity, u=u) for u in (low, high))
    slope = (at_high - at_low) / np.maximum(high - low, 1e-9)
    ahead = np.maximum(velocity, 0.0)
    now = ahead * ahead * (0.5 / (BRAKING * limit)) + ahead * (0.5 * dt)
    found: F64 = slope * (wanted - low) + at_low - now
    return found


def _reach(params: DroneParams, axis: int, *, velocity: F64, u: F64) -> F64:
    """f(u): how far the hull reaches after a step at acceleration u."""
    dt = params.dt
    after = np.maximum(velocity + u * dt, 0.0)
    stop = after * after * (0.5 / (BRAKING * params.acceleration_mps2[axis])) + after * (0.5 * dt)
    found: F64 = velocity * dt + u * (0.5 * dt * dt) + stop
    return found


def _next_legs(params: DroneParams, *, goal: F64, leg: I64, turned: Bool, streams: philox.Streams) -> None:
    row, drone = np.nonzero(turned)
    leg[row, drone] += 1
    goal[row, drone] = _points(params, streams.take(row), drone=drone, leg=leg[row, drone])


def _points(params: DroneParams, streams: philox.Streams, *, drone: I64, leg: I64) -> F64:
    """(n, 2): where leg `leg` of traffic drone `drone` ends."""
    counter = (p.u32(drone), p.u32(leg), p.u32([p.TRAFFIC]), streams.episode)
    words = philox.philox(counter, key=(streams.seed, streams.index))
    found: F64 = philox.u01(words)[:, :2] * np.asarray(params.area_m)
    return found
