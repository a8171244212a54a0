"""Our environments under RLlib's registry, for those who train them with RLlib's own algorithms and configs.

`register()` once; then `config.environment("rlaas/EdgePlacement-v1")`, or for agents by name
`config.environment(AGENTS, env_config={"env": "rlaas_ray.envs.drones.fleet_agents:DroneFleet"})`. Our trainer needs none.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import gymnasium
from ray.rllib.env.multi_agent_env import MultiAgentEnv  # noqa: TID251
from ray.tune.registry import register_env

from rlaas_ray.envs import multi_agent, registry

AGENTS = "rlaas/agents"


class Agents(MultiAgentEnv):
    """An env with dictionaries by agent (`module:Class`, PettingZoo's parallel form) as RLlib's MultiAgentEnv."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        given = dict(config)
        self._env = multi_agent.construct(given.pop("env"), config=given)
        self.possible_agents = list(self._env.possible_agents)
        self.agents = list(self.possible_agents)
        self.observation_spaces = gymnasium.spaces.Dict({a: self._env.observation_space(a) for a in self.agents})
        self.action_spaces = gymnasium.spaces.Dict({a: self._env.action_space(a) for a in self.agents})

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """The first observations, and infos."""
        found = self._env.reset(seed=seed, options=options)
        self.agents = list(self._env.agents)
        return found

    def step(self, action_dict: Mapping[str, Any]) -> Any:
        """What each agent gets; `__all__` where the env does not tell it: nobody is left."""
        seen, earned, ended, cut, infos = self._env.step(action_dict)
        self.agents = list(self._env.agents)
        over = not self.agents
        ended = {"__all__": over and not all(cut.values()), **ended}
        return seen, earned, ended, {"__all__": over, **cut}, infos


def register() -> None:
    """Every id of this package, and AGENTS; once in each driver."""
    for env in registry.ours():
        register_env(env, functools.partial(_single, env))
    register_env(AGENTS, Agents)


def _single(env: str, config: Mapping[str, Any]) -> gymnasium.Env[Any, Any]:
    given = dict(config)
    return registry.make(env, mode=given.pop("mode", None), weights=given.pop("weights", None), config=given)
