"""What is fixed for a world of drones: area, kinematic limits, battery, weather, costs; modes and their weights.

Made by env.py, fleet.py and the baselines from keyword arguments; every field can be set. Holds no state and draws nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rlaas_ray.envs import modes
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, I64

OBJECTIVES = [
    ("on_time", "1", "max"),
    ("delivered", "1", "max"),
    ("picked", "1", "max"),
    ("progress_m", "m", "max"),
    ("energy_kJ", "kJ", "min"),
    ("jerk", "1", "min"),
]
MODES = {
    "balanced": (5.0, 5.0, 2.0, 0.01, 0.05, 0.01),
    "speed": (8.0, 2.0, 2.0, 0.01, 0.01, 0.0),
    "energy": (2.0, 5.0, 2.0, 0.01, 0.30, 0.01),
    "comfort": (3.0, 5.0, 2.0, 0.01, 0.05, 0.20),
}
COSTS = ("separation", "geofence", "battery")
COST_LIMITS = (0.1, 0.5, 1.0)  # of an episode's sum
METADATA = {"modes": list(MODES), "costs": list(COSTS), "cost_limits": list(COST_LIMITS)}
LOSS = 20.0  # reward of a collision or an empty battery, in every mode
TO_PICKUP, TO_DROP, TO_PAD, FREE = range(4)
GUST, ORDER, ZONE, RESET, TRAFFIC, ARRIVAL = range(6)  # purposes of draws
TRAFFIC_LAYERS_M = (35.0, 50.0, 65.0)
TRAFFIC_MPS = 10.0
CRUISE_J_PER_M, RESERVE_J, NEED_MARGIN = 13.0, 4_000.0, 1.15
GRAVITY = 9.80665
_SIGNS = (1.0, 1.0, 1.0, 1.0, -1.0, -1.0)
_MAY_BE_ZERO = {
    "zones", "traffic", "delay", "wind_mps", "gust_mps", "start_charge", "payload_kg", "order_every_s", "orders_at_start",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DroneParams:
    """SI units; pairs are low and high of a uniform draw, triples are x east, y north, z up."""

    mode: str = "balanced"
    weights: tuple[float, ...] = MODES["balanced"]
    action_mode: str = "acceleration"
    delay: int = 0
    dt: float = 0.2
    horizon: int = 1_500
    area_m: tuple[float, ...] = (600.0, 600.0)
    altitude_m: tuple[float, ...] = (20.0, 80.0)
    pads_m: tuple[tuple[float, ...], ...] = ((300.0, 300.0, 30.0),)
    margin_m: float = 30.0  # of pickups and drops from the area's edge
    order_altitude_m: tuple[float, ...] = (25.0, 40.0)
    payload_kg: tuple[float, ...] = (0.2, 2.0)
    arrival_m: float = 5.0
    arrival_mps: float = 2.0
    separation_m: float = 5.0
    collision_m: float = 1.5
    acceleration_mps2: tuple[float, ...] = (5.0, 5.0, 3.0)
    speed_mps: tuple[float, ...] = (15.0, 15.0, 5.0)
    energy_j: float = 60_000.0
    start_charge: tuple[float, ...] = (0.4, 1.0)
    refill_s: float = 10.0
    zones: int = 4
    zone_radius_m: tuple[float, ...] = (30.0, 60.0)
    wind_mps: tuple[float, ...] = (0.0, 8.0)
    gust_s: float = 10.0
    gust_mps: tuple[float, ...] = (1.5, 1.5, 0.45)
    traffic: int = 3

    @property
    def signed_weights(self) -> tuple[float, ...]:
        """Of the objectives as they come: those to be minimised count negative."""
        return tuple(sign * weight for sign, weight in zip(_SIGNS, self.weights, strict=True))

    @property
    def pads(self) -> F64:
        """(pads, 3)."""
        return np.asarray(self.pads_m, dtype=np.float64)


_DEFAULT = DroneParams()


def settled(made: type[DroneParams], *, mode: str | None, weights: modes.Given | None, **config: Any) -> DroneParams:
    """Parameters of a class from keyword arguments, lists as they come from JSON; raises InvalidInput for senseless values."""
    mode = "balanced" if mode is None else mode
    names = [name for name, _, _ in OBJECTIVES]
    given = modes.weights_of(mode, weights=weights, modes=MODES, names=names, shares=False)
    params = made(mode=mode, weights=given, **{name: _frozen(value) for name, value in config.items()})
    _check(params)
    return params


def arrived(distance: F64, *, speed: F64, params: DroneParams) -> Any:
    """Where a drone is close and slow enough to have arrived."""
    return (distance < params.arrival_m) & (speed < params.arrival_mps)


def u32(values: Any) -> Any:
    """Counter words."""
    return np.asarray(values, dtype=np.uint32)


def reward_of(objectives: F64, *, params: DroneParams, lost: Any) -> F64:
    """Weighted sum in a fixed order, so that a row's bits do not depend on its batch; less LOSS where a drone is lost."""
    total = np.where(lost, -LOSS, 0.0)
    for k, weight in enumerate(params.signed_weights):
        total = total + weight * objectives[..., k]
    return total


def length(vector: F64) -> F64:
    """Euclidean length over the last axis of three (or two), summed in a fixed order."""
    total = vector[..., 0] * vector[..., 0]
    for k in range(1, vector.shape[-1]):
        total = total + vector[..., k] * vector[..., k]
    return np.sqrt(total)


def pad_of(params: DroneParams, position: F64) -> F64:
    """The nearest pad (n, 3) of positions (n, 3)."""
    pads = params.pads
    if len(pads) == 1:
        return np.broadcast_to(pads, position.shape)
    far = np.stack([length(position - pad) for pad in pads], axis=-1)
    nearest: I64 = far.argmin(axis=-1)
    return pads[nearest]


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, (list, tuple)) else value


def _check(params: DroneParams) -> None:
    if params.action_mode not in {"acceleration", "velocity"}:
        raise InvalidInput("action_mode", given=params.action_mode, expected="acceleration or velocity")
    if params.delay not in {0, 1}:
        raise InvalidInput("delay", given=params.delay, expected="0 or 1 steps")
    if not _is_int(params.traffic) or not 0 <= params.traffic <= len(TRAFFIC_LAYERS_M):
        raise InvalidInput("traffic", given=params.traffic, expected=f"0 to {len(TRAFFIC_LAYERS_M)} drones")
    if not _is_int(params.zones) or params.zones < 0:
        raise InvalidInput("zones", given=params.zones, expected="how many, 0 or more")
    if type(params.horizon) is not int or params.horizon < 1:
        raise InvalidInput("horizon", given=params.horizon, expected="steps, 1 or more", cure="1500 steps are 300 s.")
    for field in fields(params):
        _check_numbers(field.name, getattr(params, field.name))
    if any(pad[2] < params.altitude_m[0] or pad[2] > params.altitude_m[1] for pad in params.pads_m):
        raise InvalidInput("pads_m", given=params.pads_m, expected=f"altitudes within {params.altitude_m}")


def _is_int(value: Any) -> bool:
    return type(value) is int


def _check_numbers(name: str, value: Any) -> None:
    if isinstance(value, (str, Mapping)) or name in {"weights", "pads_m", "plan"}:
        return
    numbers = value if isinstance(value, tuple) else (value,)
    least_ok = all(
        isinstance(one, (int, float)) and math.isfinite(one) and (one >= 0 if name in _MAY_BE_ZERO else one > 0)
        for one in numbers
    )
    default = getattr(_DEFAULT, name, None)
    shape_ok = not isinstance(default, tuple) or len(numbers) == len(default)
    ranges = {"altitude_m", "order_altitude_m", "payload_kg", "start_charge", "zone_radius_m", "wind_mps"}
    ordered = name not in ranges or (isinstance(value, tuple) and len(value) == 2 and value[0] <= value[1])
    if not (least_ok and shape_ok and ordered):
        raise InvalidInput(name, given=value, expected="finite numbers like the default's, low before high")
