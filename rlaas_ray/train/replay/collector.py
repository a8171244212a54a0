"""The collector of every off-policy algorithm: rollouts with an explorer, handed over as n-step transitions.

Made by the families. Before `learning_starts` env steps it acts at random, whatever the explorer would do. Never learns.
"""

from __future__ import annotations

import time
from typing import Protocol

import numpy as np

from rlaas_ray.specs.arrays import F32, Array, Bool
from rlaas_ray.train import columns
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.replay.n_step import NStep
from rlaas_ray.train.replay.plan import ReplayPlan
from rlaas_ray.train.rollouts import Block, Rollouts, Seen
from rlaas_ray.train.seam import Collector
from rlaas_ray.train.worlds import Worlds


class Explorer(Protocol):
    """How an algorithm acts while it learns."""

    discrete: bool
    entries: int  # a, of a proposed action

    def begin(self, request: Request) -> None:
        """The next actions are by these parameters, this far into the budget."""
        ...

    def act(self, observations: F32, *, masks: Bool | None, rng: np.random.Generator) -> Array:
        """Normalised observations (B, d) -> proposed actions (B, a)."""
        ...

    def random(self, rows: int, *, masks: Bool | None, rng: np.random.Generator) -> Array:
        """Uniform proposed actions (rows, a)."""
        ...


class ReplayCollector(Collector):
    """One vector env, its explorer, and the steps that wait for their n-step returns."""

    def __init__(
        self, plan: ReplayPlan, worlds: Worlds, *, explorer: Explorer, record: np.dtype[np.void], index: int
    ) -> None:
        self._plan = plan
        self._explorer = explorer
        self._n_step = NStep(record, n=plan.n_step, gamma=plan.gamma)
        self._rollouts = Rollouts(worlds, envs=plan.envs, steps=plan.steps, seed=plan.seed, index=index)
        self._cpu_before = time.process_time()

    def sample(self, request: Request) -> Fragment:
        """One fragment; its columns are the transitions that it completed, a record array of the plan's layout."""
        rng = self._rollouts.open(request.iteration)
        explorer = self._explorer
        explorer.begin(request)
        filtered = self._plan.normalise_observations and request.observations.count > 0
        mean, scale = columns.scale_of(request.observations)
        warming = request.steps < self._plan.learning_starts

        def act(seen: Seen) -> Array:
            if warming:
                return explorer.random(len(seen.observations), masks=seen.mask, rng=rng)
            observations = seen.observations
            if filtered:
                observations = columns.normalise(observations, mean=mean, scale=scale)
            return explorer.act(observations, masks=seen.mask, rng=rng)

        return self._finish(self._rollouts.collect(act, entries=explorer.entries, discrete=explorer.discrete))

    def close(self) -> None:
        """Release the env; what waits for its next steps waits in vain."""
        self._rollouts.close()
        self._n_step.forget()

    def _finish(self, block: Block) -> Fragment:
        cpu = time.process_time()
        used, self._cpu_before = cpu - self._cpu_before, cpu
        return Fragment(
            columns=self._n_step.rows(block),
            observations=columns.moments(block.observations[:-1][block.valid])
            if self._plan.normalise_observations
            else columns.no_moments(block.observations.shape[2]),
            returns=columns.no_moments(1),
            episode_returns=np.asarray(block.returns, dtype=np.float64),
            episode_lengths=np.asarray(block.lengths, dtype=np.int64),
            steps=block.steps,
            rows=int(block.valid.sum()),
            cpu_s=used,
        )
