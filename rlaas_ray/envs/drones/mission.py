"""The mission of a lone drone: which goal it flies to, what an arrival is worth, when it must charge.

Called by env.py after each step. The mission layer sets the goal, not the policy; orders come from world.py by number.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import battery, world
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.specs.arrays import F64, I64, Bool

FULL = 0.99  # of the battery: enough to be released
DEADLINE_MPS, DEADLINE_S = 11.0, 12.0


def start(params: DroneParams, streams: philox.Streams, *, zone: F64, position: F64) -> dict[str, Any]:
    """The first order of each environment, already under way."""
    count = len(streams.seed)
    number = np.zeros(count, np.int64)
    pickup, drop, payload = world.orders(params, streams, number=number, zone=zone)
    return {
        "phase": np.full(count, p.TO_PICKUP, np.int64),
        "order": number,
        "pickup": pickup,
        "drop": drop,
        "payload": payload,
        "goal": pickup.copy(),
        "deadline": deadline(0.0, position=position, pickup=pickup, drop=drop),
    }


def deadline(now: Any, *, position: F64, pickup: F64, drop: F64) -> F64:
    """When an order is due that is assigned now: its way at 11 m/s, and 12 s."""
    way = p.length(pickup - position) + p.length(drop - pickup)
    return np.asarray(now + way / DEADLINE_MPS + DEADLINE_S, dtype=np.float64)


def refill(params: DroneParams, energy: F64, *, charging: Bool) -> F64:
    """The charge after a step of the swap: a full battery takes `refill_s`."""
    rate = params.energy_j / params.refill_s * params.dt
    return np.where(charging, np.minimum(energy + rate, params.energy_j), energy)


def advance(
    params: DroneParams,
    state: dict[str, Any],
    *,
    here: Bool,
    now: F64,
    position: F64,
    energy: F64,
    streams: philox.Streams,
) -> tuple[dict[str, Any], Bool, Bool, Bool]:
    """The mission after a step, and who picked up, delivered, and delivered on time; `here`: who has arrived."""
    phase: I64 = state["phase"]
    picked = here & (phase == p.TO_PICKUP)
    delivered = here & (phase == p.TO_DROP)
    on_time = delivered & (now <= state["deadline"])
    released = here & (phase == p.TO_PAD) & (energy >= FULL * params.energy_j)
    after = {name: state[name] for name in ("phase", "order", "pickup", "drop", "payload", "goal", "deadline")}
    if (picked | delivered | released).any():
        after = {name: value.copy() for name, value in after.items()}
        after["phase"][picked] = p.TO_DROP
        after["goal"][picked] = after["drop"][picked]
        if delivered.any():
            rows = np.flatnonzero(delivered)
            _dispatch(params, after, zone=state["zone"], rows=rows, position=position, energy=energy, streams=streams)
        _release(after, rows=np.flatnonzero(released), now=now, position=position)
        _release(after, rows=np.flatnonzero(delivered & (after["phase"] == p.TO_PICKUP)), now=now, position=position)
    return after, picked, delivered, on_time


def need_j(params: DroneParams, *, position: F64, pickup: F64, drop: F64) -> F64:
    """What the dispatcher wants in the battery before an order, without its margin."""
    pad = p.pad_of(params, drop)
    way = p.length(pickup - position) + p.length(drop - pickup) + p.length(pad - drop)
    return np.asarray(battery.need_j(way), dtype=np.float64)


def _dispatch(
    params: DroneParams,
    after: dict[str, Any],
    *,
    zone: F64,
    rows: I64,
    position: F64,
    energy: F64,
    streams: philox.Streams,
) -> None:
    """Draw the next order of the rows; to the pad first where the charge does not suffice."""
    after["order"][rows] += 1
    drawn = world.orders(params, streams.take(rows), number=after["order"][rows], zone=zone[rows])
    after["pickup"][rows], after["drop"][rows], after["payload"][rows] = drawn
    need = need_j(params, position=position[rows], pickup=drawn[0], drop=drawn[1])
    short = energy[rows] < p.NEED_MARGIN * need
    after["phase"][rows] = np.where(short, p.TO_PAD, p.TO_PICKUP)
    after["goal"][rows] = np.where(short[:, None], p.pad_of(params, position[rows]), drawn[0])


def _release(after: dict[str, Any], *, rows: I64, now: F64, position: F64) -> None:
    """Rows that set out for their pickup now."""
    after["phase"][rows] = p.TO_PICKUP
    after["goal"][rows] = after["pickup"][rows]
    after["deadline"][rows] = deadline(
        now[rows], position=position[rows], pickup=after["pickup"][rows], drop=after["drop"][rows]
    )
