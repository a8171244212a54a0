"""The pilots behind the baselines: proportional-derivative control towards the goal, from the 32 observed numbers alone.

Used by baselines.py, fleet_baselines.py and the fleet's references. They propose accelerations in the env's units; nothing
here learns or remembers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.drones import battery, dynamics, observation
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.policies import heads
from rlaas_ray.specs.arrays import F32, F64, Bool

_LIMITS = DroneParams()
_CLIMB_MPS, _RESPONSE_S = 4.0, 0.6
_TABLE = 40  # cruise speeds that pd_energy compares
# How the field stops in front of a zone; the training view's decoder, too.
ZONE_MARGIN_M, ZONE_BRAKE_MPS2, ZONE_LEAVE_PER_S = 3.0, 2.0, 1.0
_POINT = heads.Point(entries=3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hover:
    """Brakes, then stays."""

    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Actions (n, 3)."""
        velocity = velocity_of(observations.astype(np.float64))
        return _action(np.zeros_like(velocity), velocity=velocity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """Towards the goal at `cruise_mps`, slowing down to stop there. 18 m/s is not slower than the max-range speed.

    `field`: round zones and other drones, clockwise in doubt. `thrifty`: at the ground speed of least energy per metre in the
    wind that is measured, of a table of 40.
    """

    cruise_mps: float = 13.0
    field: bool = False
    thrifty: bool = False
    brake: float = 2.0  # speed in m/s towards a goal that is 1 m away, growing with the root of the distance
    approach_s: float = 1.0
    gain_mps: float = 6.0  # how fast it leaves another drone that touches
    reach_m: float = 20.0  # of other drones' field
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Actions (n, 3)."""
        seen = observations.astype(np.float64)
        velocity, way = velocity_of(seen), way_of(seen)
        speed = thrifty_mps(seen, way=way) if self.thrifty else self.cruise_mps
        wanted = cruise(way, speed=speed, brake=self.brake, approach_s=self.approach_s)
        if self.field:
            wanted = _past_drones(seen, wanted=wanted, gain_mps=self.gain_mps, reach_m=self.reach_m)
            wanted = _past_zones(seen, wanted=wanted)
        return _action(wanted, velocity=velocity)


def velocity_of(seen: F64) -> F64:
    """Velocities (n, 3) in m/s of observations (n, 32)."""
    found: F64 = seen[:, observation.VELOCITY : observation.VELOCITY + 3] * np.asarray(_LIMITS.speed_mps)
    return found


def way_of(seen: F64) -> F64:
    """Vectors to the goal (n, 3). One clipped axis is recovered from the distance; of two, the diagonal is all that is known."""
    scaled = seen[:, observation.GOAL : observation.GOAL + 3]
    way: F64 = scaled * np.asarray(observation.GOAL_M)
    distance = seen[:, observation.DISTANCE] * observation.DISTANCE_M
    left = np.maximum(distance * distance - way[:, 2] * way[:, 2], 1.0)
    beyond = np.abs(scaled[:, :2]) >= 1.0
    both = beyond[:, 0] & beyond[:, 1]
    for axis, other in ((0, 1), (1, 0)):
        reach = np.sqrt(np.where(both, 0.5 * left, np.maximum(left - way[:, other] * way[:, other], 1.0)))
        way[:, axis] = np.where(beyond[:, axis], np.sign(way[:, axis]) * reach, way[:, axis])
    return way


def cruise(way: F64, *, speed: F64 | float, brake: float, approach_s: float) -> F64:
    """The wanted velocity (n, 3): towards the goal, at most `speed`, slow enough to stop there, climb within 4 m/s."""
    far = np.maximum(p.length(way), 1e-9)
    wanted: F64 = way * (np.minimum(np.minimum(speed, far / approach_s), brake * np.sqrt(far)) / far)[:, None]
    wanted[:, 2] = np.minimum(np.maximum(wanted[:, 2], -_CLIMB_MPS), _CLIMB_MPS)
    return wanted


def thrifty_mps(seen: F64, *, way: F64) -> F64:
    """The ground speed (n,) of least energy per metre towards the goal, of 40 from 5 to 20 m/s."""
    wind = seen[:, observation.WIND : observation.WIND + 2] * observation.WIND_MPS
    payload = seen[:, observation.PAYLOAD] * observation.PAYLOAD_KG
    flat = way[:, :2] / np.maximum(p.length(way[:, :2]), 1e-9)[:, None]
    ground = np.linspace(5.0, 20.0, _TABLE)
    air = flat[:, None, :] * ground[:, None] - wind[:, None, :]
    per_m = battery.power_w(p.length(air), payload_kg=payload[:, None]) / ground
    found: F64 = ground[per_m.argmin(axis=1)]
    return found


def _past_zones(seen: F64, *, wanted: F64) -> F64:
    """The part of a velocity that leads into the nearest zone faster than it can stop turns along its edge."""
    edge = seen[:, observation.ZONE : observation.ZONE + 2] * observation.ZONE_M
    signed = seen[:, observation.ZONE_DISTANCE] * observation.ZONE_M
    known = np.abs(signed) < observation.ZONE_M
    towards = edge / np.where(np.abs(signed) < 1e-6, 1e-6, signed)[:, None]  # unit, into the zone
    inward = wanted[:, 0] * towards[:, 0] + wanted[:, 1] * towards[:, 1]
    room = signed - ZONE_MARGIN_M
    allowed = np.where(room > 0.0, np.sqrt(2.0 * ZONE_BRAKE_MPS2 * np.maximum(room, 0.0)), ZONE_LEAVE_PER_S * room)
    turned = known & (inward > allowed)
    along = np.stack((towards[:, 1], -towards[:, 0]), axis=1)  # keeps the zone on the right: clockwise
    side = wanted[:, 0] * along[:, 0] + wanted[:, 1] * along[:, 1]
    speed = p.length(wanted[:, :2])
    allowed = np.maximum(allowed, -speed)
    slide = np.sqrt(np.maximum(speed * speed - allowed * allowed, 0.0)) * np.where(side < 0.0, -1.0, 1.0)
    made = wanted.copy()
    for k in range(2):
        made[:, k] = np.where(turned, towards[:, k] * allowed + along[:, k] * slide, wanted[:, k])
    return made


def _past_drones(seen: F64, *, wanted: F64, gain_mps: float, reach_m: float) -> F64:
    """Away from near drones, and clockwise round those ahead; most within reach of the nearest."""
    made = wanted.copy()
    scale = np.asarray(observation.GOAL_M)
    for turn in range(2):
        first = observation.NEIGHBOUR + observation.NEIGHBOUR_SIZE * turn
        there = seen[:, first : first + 3] * scale
        far = seen[:, first + 4] * observation.NEIGHBOUR_M
        near: Bool = far < reach_m
        unit = there / np.maximum(far, 1e-6)[:, None]
        push = np.where(near, gain_mps * (reach_m - far) / reach_m, 0.0)
        ahead = wanted[:, 0] * unit[:, 0] + wanted[:, 1] * unit[:, 1] > 0.0
        aside = np.where(ahead, push, 0.0)
        made[:, 0] += -push * unit[:, 0] + aside * unit[:, 1]
        made[:, 1] += -push * unit[:, 1] - aside * unit[:, 0]
        made[:, 2] += -push * unit[:, 2]
    return made


def _action(wanted: F64, *, velocity: F64) -> F32:
    limit = dynamics.tiled(_LIMITS.acceleration_mps2, len(wanted))
    made = (wanted - velocity) / (_RESPONSE_S * limit)
    return np.minimum(np.maximum(made, -1.0), 1.0).astype(np.float32)
