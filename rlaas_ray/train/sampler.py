"""Sampling: a vector env and a NumPy policy, stepped together into fragments [T, B], handed over as valid columns.

Held by rllib/runner.py (in an actor or in the driver's process) and by nobody else. Weights and statistics come with every
request, so a restarted or restored sampler can never act with old ones (trap T1). Never learns, never merges statistics.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.errors import NotBuilt, WorkFailed
from rlaas_ray.specs.arrays import F32, F64, I64, Array, Bool
from rlaas_ray.train import columns, heads, network
from rlaas_ray.train.columns import Columns, Moments
from rlaas_ray.train.worlds import Worlds


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What a fragment looks like and how it is turned into advantages."""

    envs: int
    steps: int  # T
    gamma: float
    gae_lambda: float
    normalise_observations: bool
    scale_rewards: bool


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What the driver knows and a fragment needs."""

    iteration: int
    parameters: F32  # flat
    observations: Moments  # of raw encoded observations, so far
    returns: Moments  # (1,) of discounted returns, for reward scaling


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fragment:
    """What one request gave. `failure` holds the traceback of an env that broke; then everything else is empty."""

    columns: Columns | None
    observations: Moments  # of this fragment alone
    returns: Moments
    episode_returns: F64
    episode_lengths: I64
    steps: int  # valid ones, of whole envs
    rows: int  # valid ones, of units
    cpu_s: float
    failure: str | None = None


class Sampler:
    """One vector env and its running state. The env is made at the first request: its seed depends on the iteration."""

    def __init__(self, worlds: Worlds, *, sampling: Sampling, shape: network.Shape, seed: int, index: int) -> None:
        self._worlds = worlds
        self._sampling = sampling
        self._shape = shape
        self._head = heads.head_of(worlds.action_space)
        self._seed = seed
        self._index = index
        self._env: gymnasium.vector.VectorEnv[Any, Any, Any] | None = None
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """One fragment with the request's policy."""
        if self._env is None:
            self._open(request.iteration)
        policy = network.Network(request.parameters, self._shape)
        self._mean, self._scale = columns.scale_of(request.observations)
        self._filtered = self._sampling.normalise_observations and request.observations.count > 0
        raw = self._collect(policy)
        return self._finish(raw, policy=policy, request=request)

    def close(self) -> None:
        """Release the env; the next request makes a new one."""
        if self._env is not None:
            self._env.close()
            self._env = None

    def _open(self, iteration: int) -> None:
        # A resumed or restarted sampler must not live the same episodes again, so the iteration is part of the seed; iteration 0
        # keeps the spec's own seed, which the contract of our envs names.
        seed = self._seed
        if iteration:
            seed = int(np.random.SeedSequence([self._seed, iteration]).generate_state(1)[0] >> 1)
        self._rng = np.random.default_rng(np.random.SeedSequence([self._seed, iteration, self._index]))
        env = self._worlds.make(envs=self._sampling.envs, seed=seed, first_index=self._index * self._sampling.envs)
        mode = env.metadata.get("autoreset_mode", gymnasium.vector.AutoresetMode.NEXT_STEP)
        if mode == gymnasium.vector.AutoresetMode.DISABLED:
            raise NotBuilt(
                f"training on {self._worlds.env} with autoreset disabled",
                cure="Set the vector env's metadata['autoreset_mode'] to NEXT_STEP or SAME_STEP.",
            )
        self._same_step = mode == gymnasium.vector.AutoresetMode.SAME_STEP
        observations, _ = env.reset()
        self._env = env
        self._current = self._worlds.encode(observations)
        rows = self._current.shape[0]
        self._done: Bool = np.zeros(rows, dtype=np.bool_)
        self._discounted = np.zeros(rows)
        groups = rows // self._worlds.units
        self._episode_return = np.zeros(groups)
        self._episode_length = np.zeros(groups, dtype=np.int64)

    def _collect(self, policy: network.Network) -> _Raw:
        steps, rows = self._sampling.steps, self._current.shape[0]
        raw = _empty(steps, rows=rows, width=self._current.shape[1], head=self._head)
        raw.done_before[:] = self._done
        shape = (steps, rows, self._head.width)
        noise = (
            self._rng.standard_normal(shape, dtype=np.float32)
            if self._head.gaussian
            else self._rng.random(shape, dtype=np.float32)
        )
        for t in range(steps):
            raw.raw[t] = self._current
            raw.observations[t] = self._filter(self._current)
            raw.parameters[t] = policy.distribution(raw.observations[t])
            raw.actions[t] = self._head.draw(raw.parameters[t], noise[t])
            self._step(raw, t)
        raw.raw[steps] = self._current
        raw.observations[steps] = self._filter(self._current)
        if not (np.isfinite(raw.raw).all() and np.isfinite(raw.rewards).all()):
            raise WorkFailed(
                f"{self._worlds.env} gave NaN or infinity",
                expected="finite observations and rewards",
                cure=f"`rlaas env check {self._worlds.env}` finds the step.",
            )
        return raw

    def _step(self, raw: _Raw, t: int) -> None:
        assert self._env is not None
        actions = self._worlds.decode(raw.actions[t], observations=raw.raw[t])
        observations, rewards, terminated, truncated, info = self._env.step(actions)
        self._current = self._worlds.encode(observations)
        raw.rewards[t] = rewards
        raw.terminated[t] = terminated
        raw.truncated[t] = truncated
        done = np.asarray(terminated) | np.asarray(truncated)
        if self._same_step and done.any():
            for row in np.flatnonzero(done):
                raw.final.append((t, int(row), self._worlds.encode_one(info["final_obs"][row])))
        valid = np.ones_like(done) if self._same_step else ~self._done
        self._count(rewards, valid=valid, done=done, info=info, raw=raw)
        self._done = np.zeros_like(done) if self._same_step else done

    def _count(self, rewards: F64, *, valid: Bool, done: Bool, info: dict[str, Any], raw: _Raw) -> None:
        """True returns of whole envs: of each row, or of what the view says about its group of rows."""
        if self._worlds.units > 1:
            # Behind a view whole envs start anew in the same step (envs/view.py): each reward belongs to an episode.
            rewards, done = info["env_reward"], info["env_done"]
            valid = np.ones_like(done)
        self._episode_return += np.where(valid, rewards, 0.0)
        self._episode_length += valid
        raw.steps += int(valid.sum())
        ended = done & valid
        if ended.any():
            raw.returns.extend(self._episode_return[ended].tolist())
            raw.lengths.extend(self._episode_length[ended].tolist())
            self._episode_return[ended] = 0.0
            self._episode_length[ended] = 0

    def _filter(self, observations: F32) -> F32:
        return columns.normalise(observations, mean=self._mean, scale=self._scale) if self._filtered else observations

    def _finish(self, raw: _Raw, *, policy: network.Network, request: Request) -> Fragment:
        steps, rows = raw.rewards.shape
        done = raw.terminated | raw.truncated
        valid = np.ones_like(done) if self._same_step else columns.valid_next_step(raw.done_before, done)
        rewards, returns = self._scaled(raw, done=done, valid=valid, request=request)
        width = raw.observations.shape[2]
        values = policy.values(raw.observations.reshape(-1, width)).reshape(steps + 1, rows)
        following = values[1:].copy()
        if raw.final:
            last = policy.values(self._filter(np.stack([row for _, _, row in raw.final])))
            following[[t for t, _, _ in raw.final], [row for _, row, _ in raw.final]] = last
        found, targets = columns.advantages(
            rewards=rewards,
            values=values[:-1],
            following=following,
            terminated=raw.terminated,
            truncated=raw.truncated,
            gamma=self._sampling.gamma,
            gae_lambda=self._sampling.gae_lambda,
        )
        actions = raw.actions[valid]
        cpu = time.process_time()
        fragment = Fragment(
            columns=Columns(
                observations=raw.observations[:-1][valid],
                actions=actions,
                log_probabilities=self._head.evaluate(raw.parameters[valid], actions).log_probability,
                advantages=found[valid],
                targets=targets[valid],
            ),
            observations=columns.moments(raw.raw[:-1][valid])
            if self._sampling.normalise_observations
            else columns.no_moments(width),
            returns=returns,
            episode_returns=np.asarray(raw.returns, dtype=np.float64),
            episode_lengths=np.asarray(raw.lengths, dtype=np.int64),
            steps=raw.steps,
            rows=int(valid.sum()),
            cpu_s=cpu - self._cpu_before,
        )
        self._cpu_before = cpu
        return fragment

    def _scaled(self, raw: _Raw, *, done: Bool, valid: Bool, request: Request) -> tuple[F32, Moments]:
        """Rewards over the running std of discounted returns, if the plan says so; and this fragment's part of that std."""
        if not self._sampling.scale_rewards:
            return raw.rewards, columns.no_moments(1)
        seen = np.empty(raw.rewards.shape)
        for t in range(raw.rewards.shape[0]):
            self._discounted = self._discounted * self._sampling.gamma + raw.rewards[t]
            seen[t] = self._discounted
            self._discounted = np.where(done[t], 0.0, self._discounted)
        scale = np.float32(np.sqrt(request.returns.variance[0] + columns.NORMALISED_EPSILON))
        return raw.rewards / scale, columns.moments(seen[valid][:, None])


@dataclass(slots=True, kw_only=True, eq=False)
class _Raw:
    raw: F32  # (T + 1, B, d), encoded
    observations: F32  # (T + 1, B, d), normalised
    parameters: F32  # (T, B, k)
    actions: Array  # (T, B, a)
    rewards: F32
    terminated: Bool
    truncated: Bool
    done_before: Bool  # (B,)
    final: list[tuple[int, int, F32]]  # SAME_STEP: (t, row, encoded final observation)
    returns: list[float]
    lengths: list[int]
    steps: int = 0


def _empty(steps: int, *, rows: int, width: int, head: heads.Head) -> _Raw:
    return _Raw(
        raw=np.empty((steps + 1, rows, width), dtype=np.float32),
        observations=np.empty((steps + 1, rows, width), dtype=np.float32),
        parameters=np.empty((steps, rows, head.size), dtype=np.float32),
        actions=np.empty((steps, rows, head.width), dtype=np.float32 if head.gaussian else np.int64),
        rewards=np.empty((steps, rows), dtype=np.float32),
        terminated=np.empty((steps, rows), dtype=np.bool_),
        truncated=np.empty((steps, rows), dtype=np.bool_),
        done_before=np.empty(rows, dtype=np.bool_),
        final=[],
        returns=[],
        lengths=[],
    )


def failed(like: Moments, *, reason: str) -> Fragment:
    """The fragment of an env that raised; `like` has the width of observations."""
    return Fragment(
        columns=None,
        observations=columns.no_moments(like.mean.shape[0]),
        returns=columns.no_moments(1),
        episode_returns=np.empty(0),
        episode_lengths=np.empty(0, dtype=np.int64),
        steps=0,
        rows=0,
        cpu_s=0.0,
        failure=reason,
    )
