"""The 32 numbers that a drone sees, each in [-1, 1], float32; the layout is frozen for v1 and held by a golden file.

Called by env.py and fleet.py with rows of drones. Pure arithmetic; the baselines read the layout by the names here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones import world
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.specs.arrays import F32, F64, I64, Bool

SIZE = 32
VELOCITY, GOAL, DISTANCE, POSITION, CHARGE, PAYLOAD, PHASE, DEADLINE = 0, 3, 6, 7, 10, 11, 12, 15
WIND, SURPLUS, ZONE, ZONE_DISTANCE, NEIGHBOUR, NEIGHBOUR_SIZE = 16, 18, 19, 21, 22, 5
GOAL_M = (100.0, 100.0, 30.0)
DISTANCE_M, ZONE_M, NEIGHBOUR_M, CLOSING_MPS, WIND_MPS, DEADLINE_S, PAYLOAD_KG = (
    850.0,
    100.0,
    100.0,
    30.0,
    10.0,
    300.0,
    2.0,
)
SCALED_ALTITUDE_M = 100.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Look:
    """Rows of drones (n,): what they are and what is around them. wind: mean and gust, x and y (n, 2)."""

    position: F64
    velocity: F64
    goal: F64
    energy: F64
    payload: F64
    phase: I64
    left_s: F64  # to the deadline; 0 where there is none
    wind: F64
    pad_m: F64  # distance to the nearest pad
    zone: tuple[F64, F64, F64]  # of world.nearest_zone


def observe(params: DroneParams, look: Look, *, neighbours: Sequence[tuple[F64, ...]]) -> F32:
    """(n, 32). neighbours: the two nearest, each x, y, z relative, closing speed, distance (n,); see `nearest_two`."""
    seen = np.empty((len(look.position), SIZE), np.float32)
    way = look.goal - look.position
    for k in range(3):
        seen[:, VELOCITY + k] = look.velocity[:, k] * (1.0 / params.speed_mps[k])
        seen[:, GOAL + k] = way[:, k] * (1.0 / GOAL_M[k])
    seen[:, DISTANCE] = p.length(way) * (1.0 / DISTANCE_M)
    spans = (*params.area_m, SCALED_ALTITUDE_M)
    for k in range(3):
        seen[:, POSITION + k] = look.position[:, k] * (2.0 / spans[k]) - 1.0
    seen[:, CHARGE] = look.energy * (1.0 / params.energy_j)
    seen[:, PAYLOAD] = look.payload * (1.0 / PAYLOAD_KG)
    for k in range(3):
        seen[:, PHASE + k] = look.phase == k
    seen[:, DEADLINE] = look.left_s * (1.0 / DEADLINE_S)
    seen[:, WIND : WIND + 2] = look.wind * (1.0 / WIND_MPS)
    seen[:, SURPLUS] = (look.energy - p.CRUISE_J_PER_M * look.pad_m - p.RESERVE_J) * (1.0 / params.energy_j)
    for k in range(3):
        seen[:, ZONE + k] = look.zone[k] * (1.0 / ZONE_M)
    scale = (*GOAL_M, CLOSING_MPS, NEIGHBOUR_M)
    for j, near in enumerate(neighbours):
        for k in range(NEIGHBOUR_SIZE):
            seen[:, NEIGHBOUR + NEIGHBOUR_SIZE * j + k] = near[k] * (1.0 / scale[k])
    np.maximum(seen, np.float32(-1.0), out=seen)
    return np.minimum(seen, np.float32(1.0), out=seen)


def nearest_two(
    far: F64, *, position: F64, velocity: F64, others: F64, drift: F64, base: I64
) -> tuple[list[tuple[F64, ...]], F64]:
    """The two nearest of J others, ties by index, and the distance to the nearest (n,), infinite where there is none.

    far (n, J), infinite for one that is absent: vector 1, closing 0, distance 1 once scaled. others, drift (m, 3): positions
    and velocities; those of row i begin at base[i].
    """
    rows, count = far.shape
    if not count:
        return [_nobody(rows), _nobody(rows)], np.full(rows, np.inf)
    left, each = far.copy(), np.arange(rows) * count
    found: list[tuple[F64, ...]] = []
    least = np.full(rows, np.inf)
    for turn in range(2):
        column = left.argmin(axis=1)
        distance = left.ravel()[each + column]
        if turn == 0:
            least = distance
            left.ravel()[each + column] = np.inf
        found.append(
            glimpse(
                which=base + column,
                absent=np.isinf(distance),
                position=position,
                velocity=velocity,
                others=others,
                drift=drift,
            )
        )
    return found, least


def glimpse(*, which: I64, absent: Bool, position: F64, velocity: F64, others: F64, drift: F64) -> tuple[F64, ...]:
    """What drones at position (n, 3) see of others[which]: x, y, z relative, closing speed, distance, (n,) each.

    `absent` (n,): there is nobody; all far away, closing at 0.
    """
    x, y, z = (others[which, k] - position[:, k] for k in range(3))
    vx, vy, vz = (drift[which, k] - velocity[:, k] for k in range(3))
    distance = np.sqrt(x * x + y * y + z * z)
    closing = -(x * vx + y * vy + z * vz) / np.maximum(distance, 1e-9)
    if absent.any():
        closing[absent] = 0.0
        for one in (x, y, z, distance):
            one[absent] = world.ABSENT_M
    return x, y, z, closing, distance


def _nobody(rows: int) -> tuple[F64, ...]:
    far = np.full(rows, world.ABSENT_M)
    return far, far, far, np.zeros(rows), far
