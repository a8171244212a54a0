"""Point-mass kinematics with exact speed limits, gusts and walls, for rows of drones; `n` rows, axes x, y, z.

Called by env.py, fleet.py and world.py. Pure: the gust's normals are given. Never knows what a drone is for.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.specs.arrays import F64, Bool

GUST_SHARE, GUST_BOUND = (
    0.05,
    0.08,
)  # of a gust in m/s that the inner loop leaves, and of the acceleration limit at most
_VELOCITY_S = 0.5  # time constant of the velocity form of the action


def command(params: DroneParams, action: F64, *, velocity: F64) -> F64:
    """Acceleration (n, 3) that an action asks for, within the acceleration limit; before the speed limit."""
    limit = tiled(params.acceleration_mps2, len(action))
    clipped = np.minimum(np.maximum(action, -1.0), 1.0)
    if params.action_mode == "acceleration":
        return clipped * limit
    wanted = (clipped * tiled(params.speed_mps, len(action)) - velocity) * (1.0 / _VELOCITY_S)
    return np.minimum(np.maximum(wanted, -limit), limit)


def executed(params: DroneParams, wanted: F64, *, velocity: F64) -> F64:
    """The part of a command that keeps every axis within its speed limit."""
    top, per_s = tiled(params.speed_mps, len(wanted)), 1.0 / params.dt
    return np.minimum(np.maximum(wanted, (-top - velocity) * per_s), (top - velocity) * per_s)


def gusts(params: DroneParams, gust: F64, *, normal: F64) -> F64:
    """The next gust (n, 3) of an Ornstein-Uhlenbeck process; exact for any dt."""
    keep = math.exp(-params.dt / params.gust_s)
    fresh = math.sqrt(1.0 - math.exp(-2.0 * params.dt / params.gust_s))
    return keep * gust + tiled(tuple(fresh * one for one in params.gust_mps), len(gust)) * normal


def move(params: DroneParams, *, position: F64, velocity: F64, acceleration: F64, gust: F64) -> tuple[F64, F64, Bool]:
    """Position, velocity after dt, and whether a wall was hit; all (n, 3), the last (n,)."""
    bound = tiled(tuple(GUST_BOUND * one for one in params.acceleration_mps2), len(position))
    total = acceleration + np.minimum(np.maximum(GUST_SHARE * gust, -bound), bound)
    free = position + velocity * params.dt + total * (0.5 * params.dt * params.dt)
    top = tiled(params.speed_mps, len(position))
    after = np.minimum(np.maximum(velocity + total * params.dt, -top), top)
    low = tiled((0.0, 0.0, params.altitude_m[0]), len(position))
    high = tiled((*params.area_m, params.altitude_m[1]), len(position))
    inside = np.minimum(np.maximum(free, low), high)
    hit = inside != free
    return inside, np.where(hit, 0.0, after), hit[:, 0] | hit[:, 1] | hit[:, 2]


@functools.lru_cache(maxsize=256)
def tiled(row: tuple[float, ...], count: int) -> F64:
    """A row repeated: an operation on two whole arrays is several times faster than one that broadcasts three numbers."""
    made = np.tile(np.asarray(row, dtype=np.float64), (count, 1))
    made.setflags(write=False)
    return made
