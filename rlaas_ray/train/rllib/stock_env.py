"""The env that RLlib's own env runners step: encoded observations, proposed actions, and its own record of episodes.

Registered by stock.py. Encoder and decoder are those of the columnar path, so a policy learnt here serves like any other. RLlib's
own return is a moving average that can be NaN (trap T2): the record here is what the ledger counts.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from ray.tune.registry import register_env

from rlaas_ray.policies import decoders, spaces
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train.worlds import Worlds

NAME = "rlaas-stock"
Episode = tuple[int, float, int]  # the env's step at its end, return, length


class Plain(gymnasium.Env[F32, Any]):
    """One env as Box (d,) and Discrete, MultiDiscrete or Box actions from 0, [-1, 1] where bounded."""

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012  # Gymnasium's own declaration

    def __init__(self, worlds: Worlds) -> None:
        self._worlds = worlds
        self._env = worlds.make_one()
        self._decode = worlds.decoding()
        width = spaces.encoded_size(worlds.observation_space)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32)
        self.action_space = proposed_space(worlds)
        self._observed: F32 = np.zeros((1, width), dtype=np.float32)
        self._episodes: list[Episode] = []
        self._return, self._length, self._clock, self._told = 0.0, 0, 0, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """A new episode."""
        observation, info = self._env.reset(seed=seed, options=options)
        self._return, self._length = 0.0, 0
        return self._take(observation), info

    def step(self, action: Any) -> tuple[F32, float, bool, bool, dict[str, Any]]:
        """One step by a proposed action."""
        executed = self._decode(np.asarray(action).reshape(1, -1), self._observed)[0]
        observation, reward, terminated, truncated, info = self._env.step(executed)
        self._return += float(reward)
        self._length += 1
        self._clock += 1
        if terminated or truncated:
            self._episodes.append((self._clock, self._return, self._length))
        return self._take(observation), float(reward), bool(terminated), bool(truncated), info

    def close(self) -> None:
        """The env's own."""
        self._env.close()  # type: ignore[no-untyped-call]

    def told(self) -> tuple[int, list[Episode]]:
        """Env steps and ended episodes since the last call."""
        steps, self._told = self._clock - self._told, self._clock
        episodes, self._episodes = self._episodes, []
        return steps, episodes

    def _take(self, observation: Any) -> F32:
        encoded = self._worlds.encode_one(observation)
        self._observed = encoded[None]
        return encoded.copy()


def proposed_space(worlds: Worlds) -> gymnasium.spaces.Space[Any]:
    """The space of proposed actions: before the decoder."""
    space = worlds.action_space
    match space:
        case gymnasium.spaces.Discrete():
            return gymnasium.spaces.Discrete(int(space.n))
        case gymnasium.spaces.MultiDiscrete():
            return gymnasium.spaces.MultiDiscrete(space.nvec.reshape(-1))
        case _:
            bound = 1.0 if isinstance(decoders.for_action_space(space), decoders.Unsquash) else np.inf
            return gymnasium.spaces.Box(-bound, bound, (spaces.action_size(space),), np.float32)


def register() -> None:
    """Under NAME, for every process of this Ray; the worlds travel in env_config."""
    register_env(NAME, _make)


def _make(config: Any) -> Plain:
    return Plain(config["worlds"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the envs of one env runner recorded since they were last asked, episodes in the order of their ends."""

    steps: int
    episodes: list[tuple[float, int]]  # return, length
    process: int
    cpu_s: float  # of the process, since its start


def drain(runner: Any) -> Told:
    """Called on each env runner, in its process."""
    envs = [] if runner.env is None else runner.env.unwrapped.envs
    told = [env.get_wrapper_attr("told")() for env in envs]
    ended = sorted((episode for _, episodes in told for episode in episodes), key=lambda episode: episode[0])
    return Told(
        steps=sum(steps for steps, _ in told),
        episodes=[(total, length) for _, total, length in ended],
        process=os.getpid(),
        cpu_s=time.process_time(),
    )
