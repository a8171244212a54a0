"""Training views: the network proposes velocities, the decoder keeps them from zones and walls and makes accelerations.

Found through `registry.training_view`. Never used when serving: program and decoder travel in the bundle as arrays. A drone's
row earns the drone's own reward; rows never end, and `info` tells of the envs' true episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from rlaas_ray.envs import modes, vector
from rlaas_ray.envs.drones import env, fleet, observation, pilots
from rlaas_ray.envs.drones.params import DroneParams
from rlaas_ray.envs.drones.queue import FleetParams
from rlaas_ray.policies import decoders
from rlaas_ray.policies import view as programs
from rlaas_ray.specs.arrays import F32, F64, Bool

_SEEN_NEAR = np.asarray([observation.GOAL, observation.GOAL + 1, observation.GOAL + 2, observation.DISTANCE])
_CLOSER = np.asarray([10.0, 10.0, 6.0, 85.0], np.float32)  # 10, 10, 5 and 10 m are 1
_NEAR = len(_CLOSER)
_APART_M = 12.0  # from the two nearest drones: they fly at 10 m/s, 5 m are a cost
_RESPONSE_S = 0.5  # of the velocity loop, as in action_mode="velocity"
_PRESET: Mapping[str, Any] = {
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "learning_rate": 1e-3,
    "learning_rate_final": 1e-4,
    "clip": 0.2,
    "epochs": 4,
    "minibatch_size": 4096,
    "gradient_clip": 0.5,
    "entropy_coefficient": 0.0,
    "log_std_initial": -1.2,
    "batch_size": 128 * 128,
    "normalise_observations": False,
    "scale_rewards": True,
    "network": {"hidden": (64, 64), "activation": "tanh"},
    "policy_gain": 0.01,
    "serving": "greedy",
}


class DroneView:
    """The view (envs.view.TrainingView) of a lone drone: one unit."""

    units = 1
    observation_space = gymnasium.spaces.Box(-100.0, 100.0, (observation.SIZE + _NEAR,), np.float32)
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (env.ACTION,), np.float32)
    preset: Mapping[str, Any] = {**_PRESET, "num_envs_per_runner": 128}
    limits: DroneParams = DroneParams()
    domain: Callable[..., env.DroneDelivery | fleet.DroneFleet] = staticmethod(env.domain)

    @property
    def program(self) -> programs.ViewProgram:
        """Each unit sees its own 32 numbers."""
        return _program(self.units)

    @property
    def decoder(self) -> decoders.KeepOut:
        """The acceleration that leads to the proposed velocity, kept from zones, drones and walls, in half a second."""
        return _decoder(self.units, self.limits)

    def make_vector(
        self,
        *,
        num_envs: int,
        seed: int,
        first_index: int = 0,
        mode: str | None = None,
        weights: modes.Given | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> DroneRows:
        """num_envs * units rows."""
        made = self.domain(mode=mode, weights=weights, **(config or {}))
        return DroneRows(self, made, num_envs=num_envs, seed=seed, first_index=first_index)


class FleetView(DroneView):
    """The view of a fleet of ten: each drone sees its own 32 numbers."""

    units = 10
    preset: Mapping[str, Any] = {**_PRESET, "num_envs_per_runner": 16, "batch_size": 160 * 128}
    limits: DroneParams = FleetParams()
    domain: Callable[..., env.DroneDelivery | fleet.DroneFleet] = staticmethod(fleet.domain)


class DroneRows(gymnasium.vector.VectorEnv[Any, Any, Any]):
    """Rows are drones: behind them the envs start their next episode unseen."""

    def __init__(
        self,
        view: DroneView,
        made: env.DroneDelivery | fleet.DroneFleet,
        *,
        num_envs: int,
        seed: int | None,
        first_index: int,
    ) -> None:
        self.num_envs = num_envs * view.units
        self.single_observation_space, self.single_action_space = view.observation_space, view.action_space
        self.observation_space = gymnasium.vector.utils.batch_space(view.observation_space, self.num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(view.action_space, self.num_envs)
        self._inner = vector.DomainVectorEnv(
            made, num_envs=num_envs, seed=seed, first_index=first_index, autoreset=AutoresetMode.SAME_STEP, block=128
        )
        self.metadata = {**self._inner.metadata, "autoreset_mode": AutoresetMode.NEXT_STEP}
        self._decoder, self._worlds = view.decoder, num_envs
        self._flat: F32 = np.zeros((num_envs, view.units * observation.SIZE), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """New episodes everywhere."""
        seen, _ = self._inner.reset(seed=seed)
        self._flat = seen.reshape(self._worlds, -1)
        return self._rows(), {}

    def step(self, actions: Any) -> tuple[F32, F64, Bool, Bool, dict[str, Any]]:
        """Actions (rows, 3): proposed velocities, as the policy drew them."""
        proposed = np.asarray(actions, dtype=np.float64).reshape(self._worlds, -1)
        executed = self._decoder.decode(proposed, observations=self._flat)
        shaped = executed.reshape(self._worlds, *self._inner.single_action_space.shape)  # type: ignore[misc]
        seen, reward, ended, cut, info = self._inner.step(shaped)
        self._flat = seen.reshape(self._worlds, -1)
        own: F64 = info["agent_reward"].ravel() if "agent_reward" in info else reward
        cost = info.get("agent_cost", info["cost"]).reshape(self.num_envs, -1)
        never = np.zeros(self.num_envs, np.bool_)
        told = {"env_reward": reward, "env_done": ended | cut, "cost": cost}
        return self._rows(), own, never, never.copy(), told

    def _rows(self) -> F32:
        rows = self._flat.reshape(self.num_envs, observation.SIZE)
        return np.concatenate((rows, rows[:, _SEEN_NEAR] * _CLOSER), axis=1)


def _program(units: int) -> programs.ViewProgram:
    """Each unit's 32 numbers, then the way to the goal once more, so that metres near it fill the range of a tanh."""
    flat = units * observation.SIZE
    own = np.arange(flat, dtype=np.int64).reshape(units, observation.SIZE)
    near = np.arange(units * _NEAR, dtype=np.int64).reshape(units, _NEAR)
    matrix = np.zeros((flat, units * _NEAR), np.float32)
    for unit in range(units):
        matrix[unit * observation.SIZE + _SEEN_NEAR, near[unit]] = _CLOSER
    index = np.concatenate((own, flat + near), axis=1)
    return programs.ViewProgram(index=index, matrix=matrix, offset=np.zeros(units * _NEAR, np.float32))


def _decoder(units: int, limits: DroneParams) -> decoders.KeepOut:
    gain = np.asarray(limits.speed_mps) / (_RESPONSE_S * np.asarray(limits.acceleration_mps2))
    entries = units * env.ACTION
    first = np.arange(units)[:, None] * observation.SIZE + observation.VELOCITY + np.arange(env.ACTION)
    target = decoders.TargetDelta(
        gain=np.tile(gain, units),
        base=np.zeros(entries),
        scale=np.ones(entries),
        low=np.full(entries, -1.0),
        high=np.ones(entries),
        obs_offset=np.zeros(entries),
        obs_scale=np.ones(entries),
        obs_index=first.ravel().astype(np.int64),
    )
    own = np.arange(units, dtype=np.int64)[:, None]
    near = [
        (observation.NEIGHBOUR + observation.NEIGHBOUR_SIZE * turn, observation.NEIGHBOUR_SIZE - 1, _APART_M)
        for turn in (1, 0)
    ]
    zones = tuple(
        decoders.Zones(
            entries=own * env.ACTION + np.arange(2),
            seen=own * observation.SIZE + np.asarray([first, first + 1, first + distance]),
            speed=np.full(units, limits.speed_mps[0]),
            span=np.full(units, observation.ZONE_M),
            **_braking(units, margin_m=margin_m),
        )
        for first, distance, margin_m in (*near, (observation.ZONE, 2, pilots.ZONE_MARGIN_M))
    )
    spans = (*limits.area_m, observation.SCALED_ALTITUDE_M)
    sides = np.asarray([(0.0, limits.area_m[0]), (0.0, limits.area_m[1]), limits.altitude_m])
    scaled = sides * (2.0 / np.asarray(spans)[:, None]) - 1.0
    walls = decoders.Walls(
        seen=(own * observation.SIZE + observation.POSITION + np.arange(env.ACTION)).ravel(),
        low=np.tile(scaled[:, 0], units),
        high=np.tile(scaled[:, 1], units),
        speed=np.tile(limits.speed_mps, units),
        span=np.tile(0.5 * np.asarray(spans), units),
        **_braking(entries, margin_m=pilots.ZONE_MARGIN_M),
    )
    return decoders.KeepOut(target=target, zones=zones, walls=walls)


def _braking(count: int, *, margin_m: float) -> dict[str, F64]:
    """In front of zones, walls and drones: as the reference does in front of zones."""
    return {
        "margin": np.full(count, margin_m),
        "brake": np.full(count, pilots.ZONE_BRAKE_MPS2),
        "leave": np.full(count, pilots.ZONE_LEAVE_PER_S),
    }
