"""The collector of PPO and its kin: a NumPy policy in a vector env; fragments as valid rows with advantages and targets.

Made by the ppo family. Weights and statistics come with every request: a restarted or restored sampler can never act with old
ones (trap T1). Never learns, never merges statistics.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import columns, heads, network, rollouts
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.rollouts import Block, Rollouts, Seen
from rlaas_ray.train.seam import Collector
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


class Sampler(Collector):
    """Rollouts and the policy of each request."""

    def __init__(self, worlds: Worlds, *, sampling: Sampling, shape: network.Shape, seed: int, index: int) -> None:
        self._sampling = sampling
        self._shape = shape
        self._head = heads.head_of(worlds.action_space)
        self._rollouts = Rollouts(worlds, envs=sampling.envs, steps=sampling.steps, seed=seed, index=index)
        self._discounted = np.zeros(1)
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """One fragment with the request's policy."""
        rng = self._rollouts.open(request.iteration)
        policy = network.Network(request.parameters, self._shape, reuse=True)
        self._mean, self._scale = columns.scale_of(request.observations)
        self._filtered = self._sampling.normalise_observations and request.observations.count > 0
        steps, rows = self._sampling.steps, self._rollouts.rows
        filtered = np.empty((steps + 1, rows, self._shape.inputs) if self._filtered else 0, dtype=np.float32)
        parameters = np.empty((steps, rows, self._head.size), dtype=np.float32)
        outputs = parameters[:, :, : self._shape.outputs]
        if policy.log_std is not None:
            parameters[:, :, self._shape.outputs :] = policy.log_std
        noise = heads.noise(self._head, (steps, rows), rng=rng)
        actor = policy.actor.acting(rows)

        def act(seen: Seen) -> Array:
            t = seen.t
            observed = self._filter(seen.observations, out=filtered[t]) if self._filtered else seen.observations
            outputs[t] = heads.masked(actor.forward(observed), seen.mask)
            return self._head.draw(parameters[t], noise[t])

        block = self._rollouts.collect(act, entries=self._head.width, discrete=not self._head.gaussian)
        if self._filtered:
            self._filter(block.observations[steps], out=filtered[steps])
        observations = filtered if self._filtered else block.observations
        return self._finish(block, observations=observations, parameters=parameters, policy=policy, request=request)

    def close(self) -> None:
        """Release the env."""
        self._rollouts.close()

    def _filter(self, observations: F32, *, out: F32 | None = None) -> F32:
        if not self._filtered:
            return observations
        return columns.normalise(observations, mean=self._mean, scale=self._scale, out=out)

    def _finish(
        self, block: Block, *, observations: F32, parameters: F32, policy: network.Network, request: Request
    ) -> Fragment:
        steps, rows = block.rewards.shape
        valid = _Valid(block.valid)
        rewards, returns = self._scaled(block, request=request)
        width = observations.shape[2]
        values = policy.values(observations.reshape(-1, width)).reshape(steps + 1, rows).copy()
        following = values[1:].copy()
        if block.final:
            last = policy.values(self._filter(np.stack([end.observation for end in block.final])))
            following[[end.t for end in block.final], [end.row for end in block.final]] = last
        found, targets = columns.advantages(
            rewards=rewards,
            values=values[:-1],
            following=following,
            terminated=block.terminated,
            truncated=block.truncated,
            gamma=self._sampling.gamma,
            gae_lambda=self._sampling.gae_lambda,
        )
        actions = valid.of(block.actions)
        cpu = time.process_time()
        fragment = Fragment(
            columns=Columns(
                observations=valid.of(observations[:-1]),
                actions=actions,
                log_probabilities=self._head.evaluate(valid.of(parameters), actions).log_probability,
                advantages=valid.of(found),
                targets=valid.of(targets),
                masks=None if block.masks is None else valid.of(block.masks[:-1]),
            ),
            observations=columns.moments(valid.of(block.observations[:-1]))
            if self._sampling.normalise_observations
            else columns.no_moments(width),
            returns=returns,
            episode_returns=np.asarray(block.returns, dtype=np.float64),
            episode_lengths=np.asarray(block.lengths, dtype=np.int64),
            steps=block.steps,
            rows=valid.count,
            cpu_s=cpu - self._cpu_before,
        )
        self._cpu_before = cpu
        return fragment

    def _scaled(self, block: Block, *, request: Request) -> tuple[F32, columns.Moments]:
        """Rewards over the running std of discounted returns, if the plan says so; and this fragment's part of that std."""
        if not self._sampling.scale_rewards:
            return block.rewards, columns.no_moments(1)
        rows = block.rewards.shape[1]
        before = self._discounted if self._discounted.shape[0] == rows else np.zeros(rows)
        seen, self._discounted = rollouts.discounted(block, before=before, gamma=self._sampling.gamma)
        return rollouts.scale(block.rewards, returns=request.returns), columns.moments(seen[block.valid][:, None])


class _Valid:
    """Picks valid rows of (T, B, ...) as (n, ...): a view where every row is valid."""

    def __init__(self, valid: Bool) -> None:
        self._rows = None if valid.all() else np.flatnonzero(valid)
        self.count = valid.size if self._rows is None else len(self._rows)

    def of(self, values: Any) -> Any:
        flat = values.reshape(values.shape[0] * values.shape[1], *values.shape[2:])
        return flat if self._rows is None else flat.take(self._rows, axis=0)
