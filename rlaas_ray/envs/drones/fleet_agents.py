"""DroneFleet with dictionaries by agent: PettingZoo's parallel form, which RLlib's multi-agent runners and ours take.

Named by users as `rlaas_ray.envs.drones.fleet_agents:DroneFleet`, e.g. with `multi_agent: shared`. Holds one fleet; the
dynamics are those of fleet.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.drones import env, fleet, observation
from rlaas_ray.errors import Conflict
from rlaas_ray.specs.arrays import F32

_ALL = "__all__"


class DroneFleet:
    """Agents drone_0 to drone_9, each with 32 observations and 3 actions; a lost drone leaves `agents`.

    `team`: everyone earns the fleet's mean instead of its own. `__all__` is told when the horizon is reached or all are lost.
    """

    metadata: Mapping[str, Any] = {"name": "DroneFleet", "render_modes": []}

    def __init__(
        self, *, mode: str | None = None, weights: modes.Given | None = None, team: bool = False, **config: Any
    ) -> None:
        self.domain = fleet.domain(mode=mode, weights=weights, **config)
        self.team = team
        self.possible_agents = [f"drone_{k}" for k in range(self.domain.params.drones)]
        self.agents: list[str] = []
        seen = gymnasium.spaces.Box(-1.0, 1.0, (observation.SIZE,), np.float32)
        acts = gymnasium.spaces.Box(-1.0, 1.0, (env.ACTION,), np.float32)
        self.observation_spaces = dict.fromkeys(self.possible_agents, seen)
        self.action_spaces = dict.fromkeys(self.possible_agents, acts)
        self._state: dict[str, Any] = {}
        self._streams: philox.Streams | None = None

    def observation_space(self, agent: str) -> gymnasium.Space[Any]:
        """Of one agent."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium.Space[Any]:
        """Of one agent."""
        return self.action_spaces[agent]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, F32], dict[str, dict[str, Any]]]:
        """Everybody's first observation: episode 0 of a new seed, else the next one."""
        if seed is not None or self._streams is None:
            drawn = int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else seed
            self._streams = philox.streams(drawn, num_envs=1)
        else:
            was = self._streams
            self._streams = philox.Streams(seed=was.seed, index=was.index, episode=was.episode + np.uint32(1))
        self._state, seen, info = self.domain.reset(self._streams)
        self.agents = list(self.possible_agents)
        return self._told(seen), {name: self._one(info, k) for k, name in enumerate(self.possible_agents)}

    def step(
        self, actions: Mapping[str, Any]
    ) -> tuple[dict[str, F32], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """One step of all agents that are left; those without an action let their velocity be. Dicts hold these agents."""
        if self._streams is None or not self.agents:
            raise Conflict("the fleet has no agents", cure="Call reset() first.")
        batch = np.zeros((1, len(self.possible_agents), env.ACTION))
        for k, name in enumerate(self.possible_agents):
            if name in actions:
                batch[0, k] = np.asarray(actions[name])
        acting, places = list(self.agents), {name: k for k, name in enumerate(self.possible_agents)}
        self._state, seen, reward, _, ended, cut, info = self.domain.step(
            self._state, self.domain.check(batch), streams=self._streams
        )
        alive = info["alive"][0]
        observed = self._told(seen)
        rewards = {name: float(reward[0] if self.team else info["agent_reward"][0, places[name]]) for name in acting}
        terminated = {name: bool(~alive[places[name]] | ended[0]) for name in acting} | {_ALL: bool(ended[0])}
        truncated = {name: bool(cut[0]) and not terminated[name] for name in acting} | {_ALL: bool(cut[0])}
        infos = {name: self._one(info, places[name]) for name in acting}
        self.agents = [] if ended[0] or cut[0] else [name for name in acting if alive[places[name]]]
        return {name: observed[name] for name in acting}, rewards, terminated, truncated, infos

    def _told(self, seen: Any) -> dict[str, F32]:
        return {name: seen[0, k].copy() for k, name in enumerate(self.possible_agents)}

    @staticmethod
    def _one(info: Mapping[str, Any], agent: int) -> dict[str, Any]:
        return {
            "objectives": info["agent_objectives"][0, agent],
            "cost": info["agent_cost"][0, agent],
            "global_state": info["global_state"][0],
        }
