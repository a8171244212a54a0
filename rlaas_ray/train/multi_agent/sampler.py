"""The collector of multi-agent PPO: a NumPy policy for each group of agents; valid rows with advantages and targets for each.

Made by family.py. What a policy needs (network and frozen statistics) travels in the request's flat vector, policy by policy.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import columns, heads, network
from rlaas_ray.train.columns import Columns, Moments
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.multi_agent import turns
from rlaas_ray.train.multi_agent.rollouts import Act, AgentRollouts, Block, Size
from rlaas_ray.train.multi_agent.turns import Turns
from rlaas_ray.train.seam import Collector
from rlaas_ray.train.worlds import Group, Worlds


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Share:
    """What one policy's rows of a fragment gave."""

    columns: Columns | None  # None: nobody's turn was complete
    observations: Moments


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Payload:
    """`Fragment.columns` of this family."""

    shares: Mapping[str, Share]
    agent_returns: Mapping[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """What a fragment looks like, and the shape of each policy's network."""

    envs: int
    steps: int
    gamma: float
    gae_lambda: float
    normalise_observations: bool
    shapes: Mapping[str, network.Shape]

    def split(self, flat: F32) -> dict[str, tuple[F32, F32, F32]]:
        """The flat vector of a request -> (parameters, mean, scale) of each policy; views."""
        found, offset = {}, 0
        for name, shape in self.shapes.items():
            ends = np.cumsum([offset, shape.size, shape.inputs, shape.inputs])
            found[name] = tuple(flat[ends[i] : ends[i + 1]] for i in range(3))
            offset = int(ends[-1])
        return found  # type: ignore[return-value]  # three parts, as the loop says


class _Acting:
    """One policy while a block is collected."""

    def __init__(self, group: Group, *, shape: network.Shape, sampling: Sampling, rng: np.random.Generator) -> None:
        self.head = heads.head_of(group.action_space)
        rows = sampling.envs * len(group.agents)
        self.parameters = np.empty((sampling.steps, rows, self.head.size), dtype=np.float32)
        self.observations = np.empty((sampling.steps + 1, rows, shape.inputs), dtype=np.float32)
        self._noise = heads.noise(self.head, (sampling.steps, rows), rng=rng)
        self._filtered = sampling.normalise_observations
        self._shape = shape

    def load(self, parameters: F32, *, mean: F32, scale: F32) -> None:
        """The policy of this request."""
        self.policy = network.Network(parameters, self._shape)
        self._mean, self._scale = mean, scale

    def act(self, *, t: int, current: F32, mask: Bool | None) -> Array:
        """Proposed actions of all rows; those of absent agents are never executed."""
        self.observations[t] = self.filter(current)
        allowed = None if mask is None else mask | ~mask.any(axis=1, keepdims=True)
        self.parameters[t] = heads.masked(self.policy.distribution(self.observations[t]), allowed)
        return self.head.draw(self.parameters[t], self._noise[t])

    def filter(self, observations: F32) -> F32:
        """As the learner sees them."""
        if not self._filtered:
            return observations
        return columns.normalise(observations, mean=self._mean, scale=self._scale)


class AgentSampler(Collector):
    """Rollouts of all copies and the policies of each request."""

    def __init__(self, worlds: Worlds, *, sampling: Sampling, seed: int, index: int) -> None:
        self._worlds = worlds
        self._sampling = sampling
        self._rollouts = AgentRollouts(worlds, envs=sampling.envs, steps=sampling.steps, seed=seed, index=index)
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """One fragment with the request's policies."""
        rng = self._rollouts.open(request.iteration)
        split = self._sampling.split(request.parameters)
        acting: dict[str, _Acting] = {}
        for group in self._worlds.groups:
            shape = self._sampling.shapes[group.policy]
            made = acting[group.policy] = _Acting(group, shape=shape, sampling=self._sampling, rng=rng)
            parameters, mean, scale = split[group.policy]
            made.load(parameters, mean=mean, scale=scale)
        acts: dict[str, Act] = {name: made.act for name, made in acting.items()}
        sizes = {name: Size(entries=a.head.width, discrete=not a.head.gaussian) for name, a in acting.items()}
        told = self._rollouts.collect(acts, sizes=sizes)
        shares = {name: self._share(block, acting=acting[name]) for name, block in told.by_policy.items()}
        cpu = time.process_time()
        used, self._cpu_before = cpu - self._cpu_before, cpu
        return Fragment(
            columns=Payload(shares=shares, agent_returns=told.agent_returns),
            observations=columns.no_moments(request.observations.mean.shape[0]),
            returns=columns.no_moments(1),
            episode_returns=np.asarray(told.returns, dtype=np.float64),
            episode_lengths=np.asarray(told.lengths, dtype=np.int64),
            steps=told.steps,
            rows=sum(int(block.present[:-1].sum()) for block in told.by_policy.values()),
            cpu_s=used,
        )

    def close(self) -> None:
        """Release the copies."""
        self._rollouts.close()

    def _share(self, block: Block, *, acting: _Acting) -> Share:
        steps, rows = block.rewards.shape
        acting.observations[steps] = acting.filter(block.observations[steps])
        values = acting.policy.values(acting.observations.reshape(-1, acting.observations.shape[2]))
        values = values.reshape(steps + 1, rows)
        final = np.zeros((steps, rows), dtype=np.float32)
        if block.final:
            last = acting.policy.values(acting.filter(np.stack([end for _, _, end in block.final])))
            final[[t for t, _, _ in block.final], [row for _, row, _ in block.final]] = last
        found, targets, valid = turns.advantages(
            Turns(
                rewards=block.rewards,
                values=values[:-1],
                acted=block.present[:-1],
                terminated=block.terminated,
                truncated=block.truncated,
                final=final,
                last=values[-1],
                seen_last=block.present[-1],
            ),
            gamma=self._sampling.gamma,
            gae_lambda=self._sampling.gae_lambda,
        )
        seen = columns.moments(block.observations[:-1][block.present[:-1]])
        if not valid.any():
            return Share(columns=None, observations=seen)
        actions = block.actions[valid]
        return Share(
            columns=Columns(
                observations=acting.observations[:-1][valid],
                actions=actions,
                log_probabilities=acting.head.evaluate(acting.parameters[valid], actions).log_probability,
                advantages=found[valid],
                targets=targets[valid],
                masks=None if block.masks is None else block.masks[:-1][valid],
            ),
            observations=seen,
        )
