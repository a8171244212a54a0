"""Multi-agent envs as arrays: copies of an env with dicts by agent (PettingZoo's parallel API, RLlib's MultiAgentEnv).

Made by train/multi_agent and by joint evaluation. An agent that has no observation is absent until it has one again; its rewards
meanwhile count. A copy that is over starts anew in the same step and tells its last observations apart.

`B` copies, `A` agents, in the order of `possible_agents`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.specs.arrays import F64, Bool

_ALL = "__all__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """Who acts, on what, with what."""

    name: str
    observation_space: gymnasium.Space[Any]
    action_space: gymnasium.Space[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stepped:
    """One step of all copies. `final[agent][b]`: the last observation where the agent's episode ended, else None."""

    rewards: F64  # (B, A)
    terminated: Bool  # (B, A)
    truncated: Bool  # (B, A)
    over: Bool  # (B,), the copy has started anew
    final: Mapping[str, Sequence[Any]]


class Copies:
    """B copies of one env. `observations[agent][b]` and `present` (B, A) are what they are before the next step."""

    def __init__(self, envs: Sequence[Any], *, agents: Sequence[Agent], seeds: Sequence[int]) -> None:
        self._envs = list(envs)
        self.agents = tuple(agents)
        self.observations: dict[str, list[Any]] = {agent.name: [None] * len(envs) for agent in agents}
        self.present: Bool = np.zeros((len(envs), len(agents)), dtype=np.bool_)
        self.reset(seeds)

    def reset(self, seeds: Sequence[int]) -> None:
        """All copies anew, each from its own seed."""
        for b, (env, seed) in enumerate(zip(self._envs, seeds, strict=True)):
            self._see(b, env.reset(seed=int(seed))[0])

    def step(self, actions: Mapping[str, Any]) -> Stepped:
        """`actions[agent]`: a batch of B that the agent's space holds; those of absent agents are not given to the env."""
        shape = self.present.shape
        rewards, over = np.zeros(shape), np.zeros(shape[0], dtype=np.bool_)
        terminated, truncated = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
        final: dict[str, list[Any]] = {agent.name: [None] * shape[0] for agent in self.agents}
        for b, env in enumerate(self._envs):
            given = {agent.name: actions[agent.name][b] for a, agent in enumerate(self.agents) if self.present[b, a]}
            seen, earned, ended, cut, _ = env.step(given)
            everybody_ended, everybody_cut = bool(ended.get(_ALL, False)), bool(cut.get(_ALL, False))
            for a, agent in enumerate(self.agents):
                rewards[b, a] = earned.get(agent.name, 0.0)
                terminated[b, a] = ended.get(agent.name, False) or everybody_ended
                truncated[b, a] = cut.get(agent.name, False) or everybody_cut
                if terminated[b, a] or truncated[b, a]:
                    final[agent.name][b] = seen.get(agent.name)
            self._see(b, {name: seen[name] for name in seen if not self._ended(terminated[b] | truncated[b], name)})
            left = _ALL in ended or bool(
                getattr(env, "agents", True)
            )  # PettingZoo ends an episode by an empty `agents`
            over[b] = everybody_ended or everybody_cut or not left or not self.present[b].any()
            if over[b]:
                self._see(b, env.reset()[0])
        return Stepped(rewards=rewards, terminated=terminated, truncated=truncated, over=over, final=final)

    def close(self) -> None:
        """Release the copies."""
        for env in self._envs:
            close = getattr(env, "close", None)
            if close is not None:
                close()

    def _ended(self, done: Bool, name: str) -> bool:
        return any(bool(done[a]) for a, agent in enumerate(self.agents) if agent.name == name)

    def _see(self, b: int, observations: Mapping[str, Any]) -> None:
        for a, agent in enumerate(self.agents):
            self.present[b, a] = agent.name in observations
            if agent.name in observations:
                self.observations[agent.name][b] = observations[agent.name]
            elif self.observations[agent.name][b] is None:
                self.observations[agent.name][b] = _nothing(agent.observation_space)


def make(env: str, *, config: Mapping[str, Any], copies: int, seed: int, first_index: int = 0) -> Copies:
    """`copies` of `module:Class`; copy b is seeded by (seed, first_index + b) alone."""
    envs = [construct(env, config=config) for _ in range(copies)]
    seeds = [
        int(np.random.SeedSequence((seed, number)).generate_state(1)[0] >> 1)
        for number in range(first_index, first_index + copies)
    ]
    return Copies(envs, agents=_agents(env, envs[0]), seeds=seeds)


def agents_of(env: str, *, config: Mapping[str, Any]) -> tuple[Agent, ...]:
    """Who acts in `module:Class`. Raises NotFound and InvalidInput, saying what is missing."""
    made = construct(env, config=config)
    try:
        return _agents(env, made)
    finally:
        close = getattr(made, "close", None)
        if close is not None:
            close()


def construct(env: str, *, config: Mapping[str, Any]) -> Any:
    """One env with dictionaries by agent. Raises NotFound and InvalidInput."""
    module, colon, name = env.partition(":")
    try:
        found = getattr(importlib.import_module(module), name, None) if colon else None
    except ImportError as error:
        raise NotFound(f"module {module!r} of {env!r}", given=str(error), expected="an importable module") from error
    if found is None:
        raise InvalidInput(
            f"multi-agent env {env!r}",
            given="no such class",
            expected="module:Class with possible_agents, reset and step by agent",
            cure="PettingZoo's parallel API or RLlib's MultiAgentEnv.",
        )
    try:
        return found(**config)
    except TypeError as error:
        raise InvalidInput(
            f"arguments of {env!r}", given=str(error), expected="keyword arguments of its constructor"
        ) from error


def _agents(env: str, made: Any) -> tuple[Agent, ...]:
    names = getattr(made, "possible_agents", None) or getattr(made, "agents", None)
    if not names:
        raise InvalidInput(
            f"multi-agent env {env!r}",
            given="neither possible_agents nor agents",
            expected="the names of all agents",
            cure="Set self.possible_agents in its constructor.",
        )
    return tuple(
        Agent(
            name=str(name),
            observation_space=_space(env, made, kind="observation", agent=name),
            action_space=_space(env, made, kind="action", agent=name),
        )
        for name in names
    )


def _space(env: str, made: Any, *, kind: str, agent: Any) -> gymnasium.Space[Any]:
    """By method (PettingZoo), by mapping, or one space for all (RLlib)."""
    one = getattr(made, f"{kind}_space", None)
    by_agent = getattr(made, f"{kind}_spaces", None)
    found: Any = None
    if isinstance(by_agent, Mapping) and agent in by_agent:
        found = by_agent[agent]
    elif isinstance(one, gymnasium.spaces.Dict) and agent in one.spaces:
        found = one[agent]
    elif isinstance(one, gymnasium.Space):
        found = one
    elif callable(one):
        found = one(agent)
    if not isinstance(found, gymnasium.Space):
        raise InvalidInput(
            f"{kind} space of agent {agent!r} of {env!r}",
            given=found,
            expected=f"{kind}_spaces[agent], a gymnasium.Space",
        )
    return found


def _nothing(space: gymnasium.Space[Any]) -> Any:
    """An observation for an agent that has none yet: it is never learnt from."""
    space.seed(0)
    return space.sample()
