"""Envs that count: what algorithms that sample for themselves are handed, so that true steps and returns are known.

Made by driven.py. They never change what an env does but for the encoding that the protocol names.
"""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces as gs

from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import columns
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.worlds import Worlds


def spaces_of(worlds: Worlds) -> tuple[gymnasium.Space[Any], gymnasium.Space[Any]]:
    """What an algorithm observes and proposes: encoded rows, indices from 0, a bounded Box as [-1, 1]."""
    observed, acted = worlds.observation_space, worlds.action_space
    size = spaces.encoded_size(observed)
    if isinstance(observed, gs.Box):
        seen = gs.Box(observed.low.reshape(size).astype(np.float32), observed.high.reshape(size).astype(np.float32))
    else:
        seen = gs.Box(-np.inf, np.inf, (size,), np.float32)
    match acted:
        case gs.Discrete():
            return seen, gs.Discrete(int(acted.n))
        case gs.MultiDiscrete():
            return seen, gs.MultiDiscrete(acted.nvec.ravel())
        case _:
            limit = 1.0 if isinstance(acted, gs.Box) and acted.is_bounded("both") else np.inf
            return seen, gs.Box(-limit, limit, (spaces.action_size(acted),), np.float32)


class Tally:
    """Steps and episodes since the last look."""

    def __init__(self, *, width: int) -> None:
        self._width = width
        self._cpu_before = time.process_time()
        self.steps = 0
        self.returns: list[float] = []
        self.lengths: list[int] = []

    def cpu_s(self) -> float:
        """CPU seconds of this process since the last look."""
        return time.process_time() - self._cpu_before

    def drained(self) -> Fragment:
        """All of it, for the ledger; counting begins anew."""
        cpu = time.process_time()
        fragment = Fragment(
            columns=None,
            observations=columns.no_moments(self._width),
            returns=columns.no_moments(1),
            episode_returns=np.asarray(self.returns, dtype=np.float64),
            episode_lengths=np.asarray(self.lengths, dtype=np.int64),
            steps=self.steps,
            rows=self.steps,
            cpu_s=cpu - self._cpu_before,
        )
        self._cpu_before = cpu
        self.steps, self.returns, self.lengths = 0, [], []
        return fragment


class CountedEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """One env as it is, counted. The first reset without a seed takes the run's."""

    def __init__(self, env: gymnasium.Env[Any, Any], *, tally: Tally, seed: int) -> None:
        super().__init__(env)
        self._tally = tally
        self._seed: int | None = seed
        self._return, self._length = 0.0, 0
        env.action_space.seed(seed)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """A new episode."""
        given, self._seed = (self._seed if seed is None else seed), None
        self._return, self._length = 0.0, 0
        return self.env.reset(seed=given, options=options)

    def reseed(self, seed: int) -> None:
        """The next reset without a seed takes this one: a resumed run must not live the same episodes again."""
        self._seed = seed
        self.env.action_space.seed(seed)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """One step, counted."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._tally.steps += 1
        self._return += float(reward)
        self._length += 1
        if terminated or truncated:
            self._tally.returns.append(self._return)
            self._tally.lengths.append(self._length)
            self._return, self._length = 0.0, 0
        return observation, reward, terminated, truncated, info


class CountedVector(gymnasium.vector.VectorEnv[F32, Array, Array]):
    """A vector env of encoded rows, counted. `info["mask"]` (B, m): which actions are allowed, where the env says so."""

    def __init__(self, worlds: Worlds, *, envs: int, seed: int, tally: Tally) -> None:
        self._env = worlds.make_flat(envs=envs, seed=seed)
        self._worlds = worlds
        self._tally = tally
        self.num_envs = envs
        self.metadata = dict(self._env.metadata)
        self.single_observation_space, self.single_action_space = spaces_of(worlds)
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, envs)
        mode = self.metadata.get("autoreset_mode", gymnasium.vector.AutoresetMode.NEXT_STEP)
        self._done: Bool = np.zeros(envs, dtype=np.bool_)
        self._same_step = mode == gymnasium.vector.AutoresetMode.SAME_STEP
        self._begin()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[F32, dict[str, Any]]:
        """New episodes; without a seed the run's."""
        observations, info = self._env.reset(seed=seed, options=options)
        self._begin()
        return self._told(observations, info)

    def step(self, actions: Array) -> tuple[F32, Array, Array, Array, dict[str, Any]]:
        """One step of all envs; actions (B,) or (B, a) as the protocol has them."""
        proposed = np.asarray(actions).reshape(self.num_envs, -1)
        executed = self._worlds.decode(proposed, observations=self._current)
        observations, rewards, terminated, truncated, info = self._env.step(executed)
        done: Bool = np.asarray(terminated) | np.asarray(truncated)
        valid = np.ones_like(done) if self._same_step else ~self._done
        self._count(np.asarray(rewards, dtype=np.float64), valid=valid, done=done)
        self._done = done
        encoded, info = self._told(observations, info)
        return encoded, np.asarray(rewards, dtype=np.float32), terminated, truncated, info

    def close(self, **kwargs: Any) -> None:
        """Release the envs."""
        self._env.close(**kwargs)

    def _begin(self) -> None:
        self._done = np.zeros(self.num_envs, dtype=np.bool_)
        self._return, self._length = np.zeros(self.num_envs), np.zeros(self.num_envs, dtype=np.int64)

    def _count(self, rewards: Array, *, valid: Bool, done: Bool) -> None:
        self._return += np.where(valid, rewards, 0.0)
        self._length += valid
        self._tally.steps += int(valid.sum())
        ended = done & valid
        self._tally.returns.extend(self._return[ended].tolist())
        self._tally.lengths.extend(self._length[ended].tolist())
        self._return[ended] = 0.0
        self._length[ended] = 0

    def _told(self, observations: Any, info: dict[str, Any]) -> tuple[F32, dict[str, Any]]:
        self._current = self._worlds.encode(observations)
        mask = self._worlds.masks(observations)
        told = dict(info) if mask is None else {**info, "mask": mask}
        if "final_obs" in told:
            final = self._current.copy()
            for row in np.flatnonzero(told["_final_obs"]):
                final[row] = self._worlds.encode_one(told["final_obs"][row])
            told["final_obs"] = final
        return self._current, told
