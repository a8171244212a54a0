"""Collectors: trajectories for a learner that corrects for the lag, and gradients for one that only adds them up.

Made by the families, hosted in this process or in an env runner. Both act as train/sampler.py does; neither keeps weights
between requests.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import columns, heads, network, presets
from rlaas_ray.train.asynchronous import plan as plans
from rlaas_ray.train.asynchronous.gradients import Engine
from rlaas_ray.train.asynchronous.plan import AsynchronousPlan
from rlaas_ray.train.asynchronous.trajectories import Trajectory
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.rollouts import Block
from rlaas_ray.train.sampler import Sampler
from rlaas_ray.train.seam import Collector
from rlaas_ray.train.worlds import Worlds


class Trajectories(Sampler):
    """A Sampler that leaves advantages to the learner."""

    def _finish(
        self, block: Block, *, observations: F32, parameters: F32, policy: network.Network, request: Request
    ) -> Fragment:
        rewards, returns = self._scaled(block, request=request)
        steps, rows = rewards.shape
        width = observations.shape[2]
        masks = None if block.masks is None else block.masks[:-1]
        found = self._head.evaluate(
            parameters.reshape(steps * rows, -1), block.actions.reshape(steps * rows, -1)
        ).log_probability
        normalise = self._sampling.normalise_observations
        trajectory = Trajectory(
            observations=observations,
            actions=block.actions,
            log_probabilities=found.reshape(steps, rows),
            rewards=rewards,
            terminated=block.terminated,
            truncated=block.truncated,
            valid=block.valid,
            masks=masks,
            final_at=np.array([(end.t, end.row) for end in block.final], dtype=np.int64).reshape(-1, 2),
            final_observations=self._filter(
                np.array([end.observation for end in block.final], dtype=np.float32).reshape(-1, width)
            ),
            warming=normalise and request.observations.count == 0,
        )
        cpu = time.process_time()
        fragment = Fragment(
            columns=trajectory,
            observations=columns.moments(block.observations[:-1][block.valid])
            if normalise
            else columns.no_moments(width),
            returns=returns,
            episode_returns=np.asarray(block.returns, dtype=np.float64),
            episode_lengths=np.asarray(block.lengths, dtype=np.int64),
            steps=block.steps,
            rows=int(block.valid.sum()),
            cpu_s=cpu - self._cpu_before,
        )
        self._cpu_before = cpu
        return fragment


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Gradient:
    """What an actor-learner of A3C sends."""

    gradient: F32  # flat, clipped
    stats: dict[str, float]
    warming: bool = False
    staleness: int = 0  # updates of the central parameters since those that it was computed with


class ActorLearner(Collector):
    """A3C's worker: lives t_max steps with a copy of the parameters, and computes their gradient there."""

    def __init__(self, plan: AsynchronousPlan, worlds: Worlds, *, index: int) -> None:
        self._trajectories = trajectories(plan, worlds, index=index)
        shape = presets.shape_of(plan, worlds)
        self._parameters: F32 = np.zeros(shape.size, dtype=np.float32)
        self._gradient: F32 = np.zeros(shape.size, dtype=np.float32)
        self._engine = Engine(
            self._parameters,
            self._gradient,
            shape=shape,
            head=heads.head_of(worlds.action_space),
            objective=plans.objective_of(plan),
        )
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """The gradient of one short fragment, by the request's parameters."""
        fragment = self._trajectories.sample(request)
        trajectory: Trajectory = fragment.columns
        self._parameters[:] = request.parameters
        stats = self._engine.gradient(trajectory)
        stats["gradient_norm"] = self._engine.clip()
        cpu = time.process_time()
        used, self._cpu_before = cpu - self._cpu_before, cpu
        found = Gradient(gradient=self._gradient.copy(), stats=stats, warming=trajectory.warming)
        return replace(fragment, columns=found, cpu_s=used)

    def close(self) -> None:
        """Release the env."""
        self._trajectories.close()


def trajectories(plan: AsynchronousPlan, worlds: Worlds, *, index: int) -> Trajectories:
    """The collector of IMPALA and APPO, for runner `index`."""
    return Trajectories(
        worlds,
        sampling=presets.sampling_of(plan),
        shape=presets.shape_of(plan, worlds),
        seed=plan.seed,
        index=index,
    )
