"""DroneDelivery-v1 for Gymnasium: one drone in wind, between zones and traffic, delivering orders; spaces and the step.

Called by the registry through vector.py. State: dict of arrays (B, ...), float64; observations float32 (B, 32).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox, vector
from rlaas_ray.envs.drones import battery, dynamics, mission, observation, traffic, world
from rlaas_ray.envs.drones import params as p
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F32, F64, Array, Bool

ACTION = 3


class DroneDelivery:
    """The domain (vector.Domain). info: objectives, cost, cost_sum, and safety_drones, safety_zones, the raw state of a filter.

    safety_drones (B, 1 + traffic, 10): position, velocity, committed acceleration, energy in J of the drone itself, then of
    the traffic (whose committed acceleration and energy are 0); safety_zones (B, zones, 3): x, y, radius.
    """

    reported: tuple[str, ...] = ("objectives", "cost", "cost_sum", "safety_drones", "safety_zones")

    def __init__(self, params: DroneParams) -> None:
        self.params = params
        self.objectives, self.metadata = p.OBJECTIVES, p.METADATA
        self.observation_space = gymnasium.spaces.Box(-1.0, 1.0, (observation.SIZE,), np.float32)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.Box(-1.0, 1.0, (ACTION,), np.float32)

    def check(self, action: Any) -> Array:
        """Float64 (B, 3); refuses what is not finite."""
        return check_action(action, shape=(ACTION,), name="DroneDelivery")

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Array, dict[str, Any]]:
        """At the pad, at rest, with a random charge, wind and zones, and the first order."""
        state = reset_batch(self.params, streams)
        seen, _ = look(self.params, state)
        count = len(streams.seed)
        info = _info(state, objectives=np.zeros((count, len(p.OBJECTIVES))), cost=np.zeros((count, len(p.COSTS))))
        return state, seen, info

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """See step_batch."""
        return step_batch(self.params, state, action, streams)  # type: ignore[arg-type]

    def draw(self, state: vector.State) -> Array:
        """The map, see picture.py."""
        from rlaas_ray.envs.drones import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw(self.params, state)


def domain(*, mode: str | None = None, weights: modes.Given | None = None, **config: Any) -> DroneDelivery:
    """The domain of a configuration: mode, weights and the fields of DroneParams."""
    return DroneDelivery(p.settled(DroneParams, mode=mode, weights=weights, **config))


def check_action(action: Any, *, shape: tuple[int, ...], name: str) -> Array:
    """The batch as float64; raises InvalidInput for another shape or numbers that are not finite."""
    given = np.asarray(action)
    if given.shape[1:] != shape or given.dtype.kind not in "fiu":
        raise InvalidInput(
            f"action of {name}",
            given=(given.shape, str(given.dtype)),
            expected=f"(B, {', '.join(map(str, shape))}) numbers",
        )
    made = given.astype(np.float64)
    if not np.isfinite(made).all():
        raise InvalidInput(
            f"action of {name}",
            given="NaN or infinity",
            expected="finite numbers from -1 to 1",
            cure="Check the policy.",
        )
    return made


def reset_batch(params: DroneParams, streams: philox.Streams) -> vector.State:
    """Fresh worlds."""
    count = len(streams.seed)
    words = streams.words(p.u32([0]), t=p.u32(np.zeros(count)), purpose=p.u32([p.RESET]))
    u = philox.u01(words)
    low, high = params.start_charge
    position = np.tile(params.pads[0], (count, 1))
    zone = world.zones(params, streams)
    return {
        "t": np.zeros(count, np.int64),
        "position": position,
        "velocity": np.zeros((count, 3)),
        "acceleration": np.zeros((count, 3)),
        "command": np.zeros((count, 3)),
        "gust": np.zeros((count, 3)),
        "wind": wind(params, u[:, 1:3]),
        "energy": params.energy_j * (low + (high - low) * u[:, 0]),
        "zone": zone,
        **mission.start(params, streams, zone=zone, position=position),
        **traffic.start(params, streams),
    }


def wind(params: DroneParams, u: F64) -> F64:
    """The mean wind (B, 2) of two uniforms: speed and direction."""
    low, high = params.wind_mps
    speed, angle = low + (high - low) * u[:, 0], 2.0 * np.pi * u[:, 1]
    return np.stack((speed * np.cos(angle), speed * np.sin(angle)), axis=1)


def step_batch(  # noqa: PLR0917 - the seam that all environments share
    params: DroneParams, state: vector.State, action: F64, streams: philox.Streams
) -> vector.Step:
    """One step of dt for all rows: fly, spend, arrive, meet."""
    t = state["t"]
    now = (t + 1) * params.dt
    flown = fly(params, state, action=action, normal=_normals(streams, t=t))
    position, velocity = flown["position"], flown["velocity"]
    spent = flown.pop("spent_j")
    charging = p.arrived(p.length(state["goal"] - position), speed=p.length(velocity), params=params)
    energy = mission.refill(params, state["energy"] - spent, charging=charging & (state["phase"] == p.TO_PAD))
    progress = p.length(state["goal"] - state["position"]) - p.length(state["goal"] - position)
    after, picked, delivered, on_time = mission.advance(
        params, state, here=charging, now=now, position=position, energy=energy, streams=streams
    )
    hit, jerk = flown.pop("hit"), flown.pop("jerk")
    moved = (
        traffic.advance(params, state, position=state["position"], velocity=state["velocity"], streams=streams)
        if params.traffic
        else {name: state[name] for name in state if name.startswith("traffic_")}
    )
    new: vector.State = {
        "t": t + 1, **flown, "wind": state["wind"], "energy": energy, "zone": state["zone"], **after, **moved,
    }  # fmt: skip
    seen, near = look(params, new)
    objectives = np.stack((on_time, delivered, picked, progress, spent * 1e-3, jerk), axis=1, dtype=np.float64)
    terminated = (near.nearest_m < params.collision_m) | (energy <= 0.0)
    cost = np.stack(
        (
            near.nearest_m < params.separation_m,
            hit | (near.zone_m < 0.0),
            energy < p.CRUISE_J_PER_M * near.pad_m,
        ),
        axis=1,
        dtype=np.float64,
    )
    reward = p.reward_of(objectives, params=params, lost=terminated)
    truncated = ~terminated & (new["t"] >= params.horizon)
    return new, seen, reward, cost, terminated, truncated, _info(new, objectives=objectives, cost=cost)


def fly(params: DroneParams, state: vector.State, *, action: F64, normal: F64) -> dict[str, Any]:
    """Kinematics and power of rows of drones; for the fleet too, whose rows are drones. `wind` (n, 2), `payload` on board."""
    before = state["velocity"]
    wanted = dynamics.command(params, action, velocity=before)
    held, pending = (state["command"], wanted) if params.delay else (wanted, wanted)
    acceleration = dynamics.executed(params, held, velocity=before)
    gust = dynamics.gusts(params, state["gust"], normal=normal)
    position, velocity, hit = dynamics.move(
        params, position=state["position"], velocity=before, acceleration=acceleration, gust=gust
    )
    air = 0.5 * (before + velocity)
    east = air[:, 0] - state["wind"][:, 0] - gust[:, 0]
    north = air[:, 1] - state["wind"][:, 1] - gust[:, 1]
    watts = battery.power_w(np.sqrt(east * east + north * north), payload_kg=on_board(state), climb_mps=air[:, 2])
    change = acceleration - state["acceleration"]
    scale = 4.0 * sum(one * one for one in params.acceleration_mps2)
    jerk = (change[:, 0] * change[:, 0] + change[:, 1] * change[:, 1] + change[:, 2] * change[:, 2]) * (1.0 / scale)
    return {
        "position": position, "velocity": velocity, "acceleration": acceleration, "command": pending, "gust": gust,
        "hit": hit, "spent_j": watts * params.dt, "jerk": jerk,
    }  # fmt: skip


def on_board(state: vector.State) -> F64:
    """The payload that flies with the drone: only between pickup and drop."""
    return np.where(state["phase"] == p.TO_DROP, state["payload"], 0.0)


class Near:
    """What the costs need of a look: distances to the nearest drone, zone (signed) and pad, each (n,)."""

    __slots__ = ("nearest_m", "pad_m", "zone_m")

    def __init__(self, *, nearest_m: F64, zone_m: F64, pad_m: F64) -> None:
        self.nearest_m, self.zone_m, self.pad_m = nearest_m, zone_m, pad_m


def look(params: DroneParams, state: vector.State) -> tuple[F32, Near]:
    """Observations (B, 32) of a state, and the distances that the costs are made of."""
    position, velocity = state["position"], state["velocity"]
    zone = world.nearest_zone(position, zone=state["zone"])
    pad_m = p.length(p.pad_of(params, position) - position)
    there = state["traffic_position"]
    others, nearest_m = observation.nearest_two(
        p.length(there - position[:, None]),
        position=position,
        velocity=velocity,
        others=there.reshape(-1, 3),
        drift=state["traffic_velocity"].reshape(-1, 3),
        base=np.arange(len(position)) * there.shape[1],
    )
    seen = observation.observe(params, glance(params, state, zone=zone, pad_m=pad_m), neighbours=others)
    return seen, Near(nearest_m=nearest_m, zone_m=zone[2], pad_m=pad_m)


def glance(params: DroneParams, state: vector.State, *, zone: tuple[F64, F64, F64], pad_m: F64) -> observation.Look:
    """A look at rows of drones."""
    due: Bool = (state["phase"] == p.TO_PICKUP) | (state["phase"] == p.TO_DROP)
    return observation.Look(
        position=state["position"],
        velocity=state["velocity"],
        goal=state["goal"],
        energy=state["energy"],
        payload=on_board(state),
        phase=state["phase"],
        left_s=np.where(due, state["deadline"] - state["t"] * params.dt, 0.0),
        wind=state["wind"] + state["gust"][:, :2],
        pad_m=pad_m,
        zone=zone,
    )


def _normals(streams: philox.Streams, *, t: Array) -> F64:
    words = streams.words(p.u32([0]), t=p.u32(t), purpose=p.u32([p.GUST]))
    return philox.normals(philox.u01(words))[:, :ACTION]


def _info(state: vector.State, *, objectives: F64, cost: F64) -> dict[str, Any]:
    drones = np.zeros((len(cost), 1 + state["traffic_position"].shape[1], 10))
    drones[:, 0, 0:3], drones[:, 0, 3:6], drones[:, 0, 6:9] = state["position"], state["velocity"], state["command"]
    drones[:, 0, 9] = state["energy"]
    drones[:, 1:, 0:3], drones[:, 1:, 3:6] = state["traffic_position"], state["traffic_velocity"]
    return {
        "objectives": objectives,
        "cost": cost,
        "cost_sum": cost[:, 0] + cost[:, 1] + cost[:, 2],
        "safety_drones": drones,
        "safety_zones": state["zone"],
    }
