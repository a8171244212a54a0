"""DroneFleet-v1 for Gymnasium: ten drones in one area share a queue of orders; observation (10, 32), action (10, 3).

Called by the registry through vector.py, by fleet_agents.py and the training view. The reward is the fleet's mean. State arrays
are (B, drones, ...); kinematics and looks run on rows of drones, B * drones of them.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox, vector
from rlaas_ray.envs.drones import env, mission, observation, queue, world
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.queue import FleetParams
from rlaas_ray.specs.arrays import F32, F64, I64, Array, Bool

LOITER_M, LOITER_MPS = 30.0, 10.0
_LOITER_ALTITUDE_M = (40.0, 76.0)  # of the first and the last drone: waiting drones fly in layers
_SWAP_ALTITUDE_M, _SWAP_DONE_M = 50.0, 2.0
_SWAP_JITTER = (0.05, 2.0, 0.5)  # rad, m on the ground, m of altitude
_ROWS = ("position", "velocity", "acceleration", "command", "gust", "energy", "phase", "payload", "goal", "deadline")


class DroneFleet:
    """The domain (vector.Domain). info tells of each drone: agent_reward, agent_objectives, agent_cost, alive.

    Objectives and costs are means over the drones, a lost drone's being 0. `global_state` (B, drones * 32) is for a central
    critic; safety_drones (B, drones, 10) and safety_zones as in DroneDelivery.
    """

    reported: tuple[str, ...] = (
        "objectives", "cost", "cost_sum", "agent_reward", "agent_objectives", "agent_cost", "alive", "global_state",
        "safety_drones", "safety_zones",
    )  # fmt: skip

    def __init__(self, params: FleetParams) -> None:
        self.params = params
        self.objectives, self.metadata = p.OBJECTIVES, p.METADATA
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (params.drones, observation.SIZE), np.float32)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Box(
            -1.0, 1.0, (params.drones, env.ACTION), np.float32
        )

    def check(self, action: Any) -> Array:
        """Float64 (B, drones, 3); refuses what is not finite."""
        return env.check_action(action, shape=(self.params.drones, env.ACTION), name="DroneFleet")

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Array, dict[str, Any]]:
        """All on their stands, or on the circle of the antipodal scenario."""
        state = reset_batch(self.params, streams)
        count, drones = state["alive"].shape
        seen, _, _ = look(self.params, state)
        nothing = np.zeros((count, drones, len(p.OBJECTIVES)))
        info = _info(state, seen=seen, reward=nothing[..., 0], objectives=nothing, cost=nothing[..., : len(p.COSTS)])
        return state, seen, info

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """See step_batch."""
        return step_batch(self.params, state, action, streams)  # type: ignore[arg-type]

    def draw(self, state: vector.State) -> Array:
        """The map, see picture.py."""
        from rlaas_ray.envs.drones import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw_fleet(self.params, state)


def domain(*, mode: str | None = None, weights: modes.Given | None = None, **config: Any) -> DroneFleet:
    """The domain of a configuration: mode, weights and the fields of FleetParams."""
    made = p.settled(FleetParams, mode=mode, weights=weights, **config)
    assert isinstance(made, FleetParams)
    return DroneFleet(queue.check(made))


def reset_batch(params: FleetParams, streams: philox.Streams) -> vector.State:
    """Fresh worlds."""
    count, drones = len(streams.seed), params.drones
    blocks = 1 + drones
    words = streams.words(p.u32(np.arange(blocks)), t=p.u32(np.zeros(count)), purpose=p.u32([p.RESET] * blocks))
    u = philox.u01(words).reshape(count, blocks, philox.WORDS_PER_BLOCK)
    swapping = params.scenario == "antipodal"
    zone = world.zones(params, streams) if not swapping else np.zeros((count, 0, 3))
    low, high = (1.0, 1.0) if swapping else params.start_charge
    each = np.zeros((count, drones, 3))
    position = _circle(params, u[:, 1:]) if swapping else _at_stands(params, count)
    goal = _opposite(params, position) if swapping else position.copy()
    state: vector.State = {
        "t": np.zeros(count, np.int64),
        "position": position,
        "velocity": each.copy(),
        "acceleration": each.copy(),
        "command": each.copy(),
        "gust": each.copy(),
        "wind": env.wind(params, u[:, 0, 1:3]),
        "energy": params.energy_j * (low + (high - low) * u[:, 1:, 0]),
        "zone": zone,
        "alive": np.ones((count, drones), np.bool_),
        "phase": np.full((count, drones), p.TO_DROP if swapping else p.FREE, np.int64),
        "goal": goal,
        "drop": goal.copy(),
        "loiter": position.copy(),
        "payload": np.zeros((count, drones)),
        "deadline": np.full((count, drones), params.horizon * params.dt),
        **queue.start(params, streams, zone=zone),
    }
    queue.assign(params, state, now=np.zeros(count), completed=np.ones(count, np.bool_))
    return state


def step_batch(  # noqa: PLR0917 - the seam that all environments share
    params: FleetParams, state: vector.State, action: F64, streams: philox.Streams
) -> vector.Step:
    """One step of dt for all fleets: fly, spend, arrive, assign, meet."""
    count, drones = state["alive"].shape
    alive, now = state["alive"], (state["t"] + 1) * params.dt
    rows = _rows(state)
    flown = env.fly(
        params, rows, action=action.reshape(-1, env.ACTION), normal=_normals(streams, t=state["t"], drones=drones)
    )
    _hold_the_lost(flown, rows=rows, alive=alive.ravel())
    way = p.length(rows["goal"] - flown["position"])
    progress = (p.length(rows["goal"] - rows["position"]) - way) * (rows["phase"] != p.FREE)
    here = (alive.ravel() & p.arrived(way, speed=p.length(flown["velocity"]), params=params)).reshape(count, drones)
    spent, hit, jerk = (flown.pop(name) for name in ("spent_j", "hit", "jerk"))
    charging = here & (state["phase"] == p.TO_PAD)
    energy = mission.refill(params, state["energy"] - spent.reshape(count, drones), charging=charging)
    flying = {name: value.reshape(count, drones, 3) for name, value in flown.items()}
    new: vector.State = {**state, **flying, "t": state["t"] + 1, "energy": energy}
    done = _advance(params, new, here=here, now=now, streams=streams)
    seen, nearest_m, near = look(params, new)
    lost = alive & ((nearest_m < params.collision_m) | (energy <= 0.0))
    new["alive"] = alive & ~lost
    cost = np.stack(
        (nearest_m < params.separation_m, hit.reshape(count, drones) | (near[0] < 0.0), energy < p.CRUISE_J_PER_M * near[1]),
        axis=2,
        dtype=np.float64,
    ) * alive[..., None]  # fmt: skip
    each = (*done, *(one.reshape(count, drones) for one in (progress, spent * 1e-3, jerk)))
    objectives = np.stack(each, axis=2, dtype=np.float64) * alive[..., None]
    reward = p.reward_of(objectives, params=params, lost=lost)
    terminated = ~new["alive"].any(axis=1) | _swapped(params, new)
    truncated = ~terminated & (new["t"] >= params.horizon)
    info = _info(new, seen=seen, reward=reward, objectives=objectives, cost=cost)
    return new, seen, _mean(reward), info["cost"], terminated, truncated, info


def look(params: FleetParams, state: vector.State) -> tuple[F32, F64, tuple[F64, F64]]:
    """Observations (B, drones, 32), zeros for the lost; distances (B, drones) to the nearest other, zone and pad."""
    alive = state["alive"]
    count, drones = alive.shape
    rows = _rows(state)
    base = (np.arange(count) * drones)[:, None]
    others = [
        observation.glimpse(
            which=(base + index).ravel(),
            absent=absent.ravel(),
            position=rows["position"],
            velocity=rows["velocity"],
            others=rows["position"],
            drift=rows["velocity"],
        )
        for index, absent in two_nearest(state["position"], alive=alive)
    ]
    nearest_m = others[0][-1].reshape(count, drones)
    zone = world.nearest_zone(rows["position"], zone=rows["zone"])
    pad_m = p.length(p.pad_of(params, rows["position"]) - rows["position"])
    glance = env.glance(params, rows, zone=zone, pad_m=pad_m)
    seen = observation.observe(params, glance, neighbours=others).reshape(count, drones, -1)
    if not alive.all():
        seen[~alive] = 0.0
    shape = (count, drones)
    return seen, nearest_m, (zone[2].reshape(shape), pad_m.reshape(shape))


def _advance(
    params: FleetParams, new: vector.State, *, here: Bool, now: F64, streams: philox.Streams
) -> tuple[Bool, ...]:
    """The missions after a step, in `new`: on time, delivered, picked up (B, drones)."""
    nobody = np.zeros_like(here)
    if params.scenario == "antipodal":
        return nobody, nobody, nobody
    phase = new["phase"]
    picked, delivered = here & (phase == p.TO_PICKUP), here & (phase == p.TO_DROP)
    on_time = delivered & (now[:, None] <= new["deadline"])
    freed = delivered | (here & (phase == p.TO_PAD) & (new["energy"] >= mission.FULL * params.energy_j))
    copied = ("phase", "goal", "drop", "loiter", "payload", "deadline", "changed", "arrived", "next_arrival")
    for name in (*copied, *(one for one in new if one.startswith("queue_"))):
        new[name] = new[name].copy()
    if picked.any():
        new["phase"][picked] = p.TO_DROP
        new["goal"][picked] = new["drop"][picked]
    if freed.any():
        new["phase"][freed] = p.FREE
        new["loiter"][freed] = new["position"][freed]
        new["changed"] |= freed.any(axis=1)
    queue.arrive(params, new, now=now, zone=new["zone"], streams=streams)
    queue.assign(params, new, now=now, completed=freed.any(axis=1))
    _loiter(params, new, now=now)
    return on_time, delivered, picked


def _loiter(params: FleetParams, new: vector.State, *, now: F64) -> None:
    """The goal of a free drone runs along a circle where it became free, in the drone's own layer."""
    row, drone = np.nonzero(new["phase"] == p.FREE)
    if not len(row):
        return
    reach = [LOITER_M, LOITER_M]
    high = np.asarray(params.area_m) - reach
    middle = np.minimum(np.maximum(new["loiter"][row, drone, :2], reach), high)
    angle = now[row] * (LOITER_MPS / LOITER_M) + drone * (2.0 * np.pi / params.drones)
    goal = np.empty((len(row), 3))
    goal[:, 0] = middle[:, 0] + LOITER_M * np.cos(angle)
    goal[:, 1] = middle[:, 1] + LOITER_M * np.sin(angle)
    goal[:, 2] = np.linspace(*_LOITER_ALTITUDE_M, params.drones)[drone]
    new["goal"][row, drone] = goal


def two_nearest(position: F64, *, alive: Bool) -> tuple[tuple[I64, Bool], tuple[I64, Bool]]:
    """Of each drone (B, drones) the nearest and the next living other: its index, and where there is none.

    One pass over the others with the long axis last. An index travels in the lowest bits of its squared distance, so that the
    two least are a minimum and a maximum: six times as fast as a table of all pairs that is searched twice. Distances closer
    than 1 in 2^52 / drones are a tie, which goes to the lower index.
    """
    x, y, z = (position[..., k].T.copy() for k in range(3))
    first, second = np.full(x.shape, np.inf), np.full(x.shape, np.inf)
    here, along = np.empty_like(x), np.empty_like(x)
    code = here.view(np.int64)
    low = np.int64((1 << (len(x) - 1).bit_length()) - 1)
    all_alive = alive.all()
    for other in range(len(x)):
        np.subtract(x[other], x, out=here)
        here *= here
        for axis in (y, z):
            np.subtract(axis[other], axis, out=along)
            along *= along
            here += along
        code &= ~low
        code |= other
        here[other] = np.inf
        if not all_alive:
            here[:, ~alive[:, other]] = np.inf
        np.maximum(first, here, out=along)
        np.minimum(first, here, out=first)
        np.minimum(second, along, out=second)
    return _unpacked(first, low=low), _unpacked(second, low=low)


def _unpacked(packed: F64, *, low: np.int64) -> tuple[I64, Bool]:
    rows = np.ascontiguousarray(packed.T)
    return rows.view(np.int64) & low, np.isinf(rows)


def _rows(state: vector.State) -> vector.State:
    """The state by rows of drones."""
    drones = state["alive"].shape[1]
    rows = {name: state[name].reshape(-1, *state[name].shape[2:]) for name in _ROWS}
    for name in ("wind", "zone", "t"):
        rows[name] = np.repeat(state[name], drones, axis=0)
    return rows


def _hold_the_lost(flown: dict[str, Any], *, rows: vector.State, alive: Bool) -> None:
    if alive.all():
        return
    lost = ~alive
    for name in ("position", "velocity", "acceleration", "command", "gust"):
        flown[name][lost] = rows[name][lost]
    flown["spent_j"][lost] = 0.0
    flown["hit"][lost] = False


def _at_stands(params: FleetParams, count: int) -> F64:
    pads = params.pads[np.arange(params.drones) % len(params.pads_m)]
    return np.tile(pads + queue.stands(params), (count, 1, 1))


def _circle(params: FleetParams, u: F64) -> F64:
    """Evenly on a circle around the middle of the area, jittered; u (B, drones, 4)."""
    spread = 2.0 * u - 1.0
    angle = 2.0 * np.pi * np.arange(params.drones) / params.drones + _SWAP_JITTER[0] * spread[..., 0]
    reach = params.circle_m + _SWAP_JITTER[1] * spread[..., 1]
    x, y = (0.5 * side for side in params.area_m)
    high = _SWAP_ALTITUDE_M + _SWAP_JITTER[2] * spread[..., 2]
    return np.stack((x + reach * np.cos(angle), y + reach * np.sin(angle), high), axis=2)


def _opposite(params: FleetParams, position: F64) -> F64:
    made = np.asarray([*params.area_m, 0.0]) - position
    made[..., 2] = position[..., 2]
    return made


def _swapped(params: FleetParams, state: vector.State) -> Bool:
    """Fleets of the antipodal scenario whose drones are all there."""
    if params.scenario != "antipodal":
        return np.zeros(len(state["t"]), np.bool_)
    there = p.length(state["goal"] - state["position"]) < _SWAP_DONE_M
    found: Bool = (there | ~state["alive"]).all(axis=1)
    return found


def _normals(streams: philox.Streams, *, t: Array, drones: int) -> F64:
    """(B * drones, 3)."""
    blocks = -(-drones * env.ACTION // philox.WORDS_PER_BLOCK)
    words = streams.words(p.u32(np.arange(blocks)), t=p.u32(t), purpose=p.u32([p.GUST] * blocks))
    return philox.normals(philox.u01(words))[:, : drones * env.ACTION].reshape(-1, env.ACTION)


def _mean(values: F64) -> F64:
    """Over the drones, one after the other."""
    total = values[:, 0]
    for k in range(1, values.shape[1]):
        total = total + values[:, k]
    mean: F64 = total / values.shape[1]
    return mean


def _info(state: vector.State, *, seen: F32, reward: F64, objectives: F64, cost: F64) -> dict[str, Any]:
    count, drones = state["alive"].shape
    raw = np.zeros((count, drones, 10))
    raw[..., 0:3], raw[..., 3:6], raw[..., 6:9] = state["position"], state["velocity"], state["command"]
    raw[..., 9] = state["energy"]
    mean = _mean(cost)
    return {
        "objectives": _mean(objectives),
        "cost": mean,
        "cost_sum": mean[:, 0] + mean[:, 1] + mean[:, 2],
        "agent_reward": reward,
        "agent_objectives": objectives,
        "agent_cost": cost,
        "alive": state["alive"],
        "global_state": seen.reshape(count, -1),
        "safety_drones": raw,
        "safety_zones": state["zone"],
    }
