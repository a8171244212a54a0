"""Rotary-wing power: Zeng, Xu and Zhang, Energy Minimization for Wireless Communication with Rotary-Wing UAV, IEEE TWC 2019.

Called by mission and fleet steps, baselines and the bound. Pure; per drone rows. The climb term is ours: work against
gravity, nothing recovered in descent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rlaas_ray.envs.drones import params as p
from rlaas_ray.specs.arrays import F64

WEIGHT_N, AIR, RADIUS_M, DISC_M2 = 20.0, 1.225, 0.4, 0.503
OMEGA, TIP_MPS = 300.0, 120.0
SOLIDITY, DRAG_RATIO, INDUCED, PROFILE = 0.05, 0.6, 0.1, 0.012
BLADE_W = PROFILE / 8.0 * AIR * SOLIDITY * DISC_M2 * OMEGA**3 * RADIUS_M**3
_PARASITE = DRAG_RATIO * AIR * SOLIDITY * DISC_M2 / 2.0
_TIP = 3.0 / TIP_MPS**2
_HOVER = (1.0 + INDUCED) / math.sqrt(2.0 * AIR * DISC_M2)
_WAKE = 1.0 / (2.0 * AIR * DISC_M2)


def power_w(airspeed: Any, *, payload_kg: Any = 0.0, climb_mps: Any = 0.0) -> F64:
    """Power in W at a horizontal airspeed in m/s, with a payload in kg, climbing at m/s.

    The induced root sqrt(sqrt(1 + y^2) - y) is written 1 / sqrt(sqrt(1 + y^2) + y), y = V^2 / (2 v0^2): nothing cancels.
    """
    speed2 = np.asarray(airspeed, dtype=np.float64) * airspeed
    weight = WEIGHT_N + p.GRAVITY * np.asarray(payload_kg, dtype=np.float64)
    y = speed2 / (2.0 * _WAKE * weight)  # v0^2 = W / (2 rho A)
    induced = _HOVER * weight * np.sqrt(weight) / np.sqrt(np.sqrt(1.0 + y * y) + y)
    blade = BLADE_W * (1.0 + _TIP * speed2)
    parasite = _PARASITE * speed2 * np.sqrt(speed2)
    return np.asarray(blade + induced + parasite + weight * np.maximum(climb_mps, 0.0), dtype=np.float64)


def need_j(distance_m: Any) -> Any:
    """What the dispatcher takes a flight of so many metres to cost: 13 J/m and a reserve, optimistic for slow or heavy flight."""
    return p.CRUISE_J_PER_M * distance_m + p.RESERVE_J
