"""The fleet's shared queue: orders arrive, wait, and are assigned to free drones every second and on every completion.

Called by fleet.py. Costs of all fleets are computed together; the solver runs only where free drones or open orders changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.drones import assignment, battery, mission, world
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64, I64, Bool

CRUISE_MPS, LATENESS = 13.0, 2.0
GRACE_S = 30.0  # a queued order may wait so long before anybody sets out
LOW = 0.5  # a free drone with nothing to do and less charge than this goes to a pad
STAND_M = 18.0  # every drone has its own stand, on a ring around each pad
SCENARIOS = ("delivery", "antipodal")
_EVERY_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetParams(DroneParams):
    """A fleet's world. `plan`: the orders that the drones take at the start, in place of an assignment."""

    area_m: tuple[float, ...] = (900.0, 900.0)
    pads_m: tuple[tuple[float, ...], ...] = ((225.0, 225.0, 30.0), (675.0, 225.0, 30.0), (450.0, 675.0, 30.0))
    traffic: int = 0
    drones: int = 10
    scenario: str = "delivery"
    assignment: str = "hungarian"
    orders_at_start: int = 10
    order_every_s: float = 6.0  # mean of a Poisson process; 0: none after the start
    queue: int = 30
    circle_m: float = 100.0
    plan: tuple[int, ...] = ()


def check(params: FleetParams) -> FleetParams:
    """Raises InvalidInput for names that are none and counts that do not fit."""
    for name, value, known in (
        ("scenario", params.scenario, SCENARIOS),
        ("assignment", params.assignment, tuple(assignment.METHODS)),
    ):
        if value not in known:
            raise InvalidInput(name, given=value, expected=", ".join(known), cure=nearest(value, list(known)))
    if params.traffic:
        raise InvalidInput("traffic", given=params.traffic, expected="0: the others of a fleet are the fleet")
    if not 1 <= params.drones <= 10 or not 0 <= params.orders_at_start <= params.queue:
        raise InvalidInput(
            "size of a fleet",
            given=(params.drones, params.orders_at_start, params.queue),
            expected="1 to 10 drones, orders_at_start within the queue",
        )
    if params.plan and sorted(params.plan) != list(range(params.drones)):
        raise InvalidInput("plan", given=params.plan, expected=f"a permutation of 0 to {params.drones - 1}")
    if params.plan and params.orders_at_start < params.drones:
        raise InvalidInput("orders_at_start", given=params.orders_at_start, expected="one for each drone of the plan")
    return params


def start(params: FleetParams, streams: philox.Streams, *, zone: F64) -> dict[str, Any]:
    """The queue at t = 0. queue_number (B, Q): an order's number, -1 where a place is empty."""
    count, places, first = len(streams.seed), params.queue, params.orders_at_start
    if params.scenario == "antipodal":
        first = 0
    queue: dict[str, Any] = {
        "queue_number": np.full((count, places), -1, np.int64),
        "queue_pickup": np.zeros((count, places, 3)),
        "queue_drop": np.zeros((count, places, 3)),
        "queue_payload": np.zeros((count, places)),
        "queue_due": np.zeros((count, places)),
        "arrived": np.full(count, first, np.int64),
        "changed": np.ones(count, np.bool_),
    }
    for number in range(first):
        _put(params, queue, streams=streams, rows=np.arange(count), place=np.full(count, number), zone=zone,
             number=np.full(count, number), now=np.zeros(count))  # fmt: skip
    queue["next_arrival"] = gap_s(params, streams, number=queue["arrived"])
    return queue


def arrive(params: FleetParams, queue: dict[str, Any], *, now: F64, zone: F64, streams: philox.Streams) -> None:
    """Orders whose time has come join the queue; one that finds it full is lost. Changes the arrays of `queue`."""
    while True:
        rows = np.flatnonzero(queue["next_arrival"] <= now)
        if not len(rows):
            return
        number, at = queue["arrived"][rows], queue["next_arrival"][rows]
        free = queue["queue_number"][rows] < 0
        place, fits = free.argmax(axis=1), free.any(axis=1)
        if fits.any():
            _put(params, queue, streams=streams.take(rows[fits]), rows=rows[fits], place=place[fits],
                 zone=zone[rows[fits]], number=number[fits], now=at[fits])  # fmt: skip
            queue["changed"][rows[fits]] = True
        queue["arrived"][rows] += 1
        queue["next_arrival"][rows] = at + gap_s(params, streams.take(rows), number=number + 1)


def assign(params: FleetParams, state: dict[str, Any], *, now: F64, completed: Bool) -> None:
    """Give open orders to free drones where it is time to, and send those that can do nothing to a pad. Changes `state`."""
    every = max(round(_EVERY_S / params.dt), 1)
    due = (state["t"] % every == 0) | completed
    free = (state["phase"] == p.FREE) & state["alive"]
    rows = np.flatnonzero(due & state["changed"] & free.any(axis=1))
    if len(rows):
        _solve(params, state, rows=rows, free=free[rows], now=now[rows])
    idle = (state["phase"] == p.FREE) & state["alive"] & due[:, None]
    row, drone = np.nonzero(idle & (state["energy"] < LOW * params.energy_j))
    if len(row):
        send_to_pad(params, state, rows=row, drone=drone)


def _solve(params: FleetParams, state: dict[str, Any], *, rows: I64, free: Bool, now: F64) -> None:
    """Pairs of the rows whose free drones or open orders changed; who could take none of them goes to a pad."""
    state["changed"][rows] = False
    waiting = state["queue_number"][rows] >= 0
    costs = _costs(params, state, rows=rows, free=free, waiting=waiting, now=now)
    solve = assignment.METHODS[params.assignment]
    for k in np.flatnonzero(waiting.any(axis=1)):
        row, drones, places = rows[k], np.flatnonzero(free[k]), np.flatnonzero(waiting[k])
        places = places[np.argsort(state["queue_number"][row, places])]
        if params.plan and state["t"][row] == 0:
            pairs = np.arange(params.drones), np.asarray(params.plan)
        else:
            pairs = solve(costs[k][np.ix_(drones, places)])
        _take(state, row=int(row), drones=drones[pairs[0]], places=places[pairs[1]])
    able = np.isfinite(costs).any(axis=2) | ~waiting.any(axis=1)[:, None]
    which, drone = np.nonzero((state["phase"][rows] == p.FREE) & free & ~able)
    if len(which):
        send_to_pad(params, state, rows=rows[which], drone=drone)


def send_to_pad(params: FleetParams, state: dict[str, Any], *, rows: I64, drone: I64) -> None:
    """To the own stand at the nearest pad. Changes `state`."""
    state["phase"][rows, drone] = p.TO_PAD
    pad = p.pad_of(params, state["position"][rows, drone])
    state["goal"][rows, drone] = pad + stands(params)[drone]


def stands(params: FleetParams) -> F64:
    """(drones, 3): where each drone's stand lies from the middle of a pad."""
    angle = 2.0 * np.pi * np.arange(params.drones) / params.drones
    return np.stack((STAND_M * np.cos(angle), STAND_M * np.sin(angle), np.zeros(params.drones)), axis=1)


def _costs(params: FleetParams, state: dict[str, Any], *, rows: I64, free: Bool, waiting: Bool, now: F64) -> F64:
    """(R, drones, places): seconds to the pickup at 13 m/s, and twice the predicted lateness; infinite where impossible."""
    pickup, drop = state["queue_pickup"][rows], state["queue_drop"][rows]
    there = p.length(pickup[:, None] - state["position"][rows][:, :, None])
    along = p.length(drop - pickup)
    pads = p.pad_of(params, drop.reshape(-1, 3)).reshape(drop.shape)
    need = battery.need_j(there + (along + p.length(pads - drop))[:, None])
    late = now[:, None, None] + (there + along[:, None]) / CRUISE_MPS - state["queue_due"][rows][:, None]
    costs = there / CRUISE_MPS + LATENESS * np.maximum(late, 0.0)
    possible = free[:, :, None] & waiting[:, None] & (state["energy"][rows][:, :, None] >= p.NEED_MARGIN * need)
    return np.where(possible, costs, np.inf)


def _take(state: dict[str, Any], *, row: int, drones: I64, places: I64) -> None:
    state["phase"][row, drones] = p.TO_PICKUP
    state["goal"][row, drones] = state["queue_pickup"][row, places]
    state["drop"][row, drones] = state["queue_drop"][row, places]
    state["payload"][row, drones] = state["queue_payload"][row, places]
    state["deadline"][row, drones] = state["queue_due"][row, places]
    state["queue_number"][row, places] = -1


def _put(
    params: FleetParams,
    queue: dict[str, Any],
    *,
    streams: philox.Streams,
    rows: I64,
    place: I64,
    zone: F64,
    number: I64,
    now: F64,
) -> None:
    pickup, drop, payload = world.orders(params, streams, number=number, zone=zone)
    from_pad = p.pad_of(params, pickup)
    queue["queue_number"][rows, place] = number
    queue["queue_pickup"][rows, place], queue["queue_drop"][rows, place] = pickup, drop
    queue["queue_payload"][rows, place] = payload
    queue["queue_due"][rows, place] = GRACE_S + mission.deadline(now, position=from_pad, pickup=pickup, drop=drop)


def gap_s(params: FleetParams, streams: philox.Streams, *, number: I64) -> F64:
    """Seconds before the order of this number, exponential."""
    if not params.order_every_s or params.scenario == "antipodal":
        return np.full(len(number), np.inf)
    words = streams.words(p.u32([0]), t=p.u32(number), purpose=p.u32([p.ARRIVAL]))
    return np.asarray(-params.order_every_s * np.log(philox.u01(words)[:, 0].copy()), dtype=np.float64)
