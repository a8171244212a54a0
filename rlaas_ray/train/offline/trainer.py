"""The Trainer of offline learning: reads the data once, then draws rows and updates, without an env until evaluation.

Built by family.py, driven by runner.py. `steps` of its ledger are rows learned from; there are no episodes, so no return before
the evaluation. Rewards are divided by the standard deviation of the data's returns, so that one set of weights fits any env.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import decoders, network, spaces
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import columns, ledger, plans
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.offline import dataset, sources
from rlaas_ray.train.offline.dataset import Dataset
from rlaas_ray.train.offline.learner import Engine, Learnt
from rlaas_ray.train.offline.plans import OfflinePlan
from rlaas_ray.train.seam import Build, State, Trained, Trainer

UPDATES_OF_AN_ITERATION = 200
_INITIAL, _ROWS = 0, 1  # streams of random numbers


class Offline(Trainer):
    """A dataset, an engine, and the ledger of what was done."""

    def __init__(
        self,
        given: Build[OfflinePlan],
        *,
        make: Callable[[OfflinePlan, np.random.Generator], Engine],
        bootstraps: bool,
    ) -> None:
        plan, worlds = given.plan, given.worlds
        self._plan = plan
        self._slice_s = given.slice_s
        self._action_space = worlds.flat_action_space
        read = dataset.columns_of(
            sources.read(plan.dataset, data_url=given.data_url),
            observation_space=worlds.flat_observation_space,
            action_space=self._action_space,
            gamma=plan.gamma,
        )
        kept = _complete(read, plan=plan) if bootstraps else read
        self._ledger = ledger.new(spaces.encoded_size(worlds.flat_observation_space))
        self._ledger.observations = columns.moments(kept.observations)
        self._scale = scale_of(kept.returns)
        self._data = self._prepared(kept)
        self._engine = make(plan, np.random.default_rng(np.random.SeedSequence([plan.seed, _INITIAL])))
        self._told = {
            "dataset_rows": float(len(kept)),
            "dataset_episodes": float(len(kept.episode_returns)),
            "dataset_return_mean": float(kept.episode_returns.mean()),
        }
        self._stats: dict[str, float] = dict(self._told)
        self._cpu_before = time.process_time()

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def stats(self) -> Mapping[str, float]:
        return self._stats

    def train(self) -> None:
        """Iterations for a slice of time."""
        started = time.monotonic()
        while True:
            self._iterate()
            if ledger.finished(self._ledger, plan=self._plan) or time.monotonic() - started >= self._slice_s:
                return

    def _iterate(self) -> None:
        """A fixed number of updates, fewer at the end of the budget; its rows depend on seed and iteration alone."""
        plan, done = self._plan, self._ledger
        rng = np.random.default_rng(np.random.SeedSequence([plan.seed, _ROWS, done.iteration]))
        updates = UPDATES_OF_AN_ITERATION
        if plan.total_timesteps is not None:
            updates = min(updates, -(-(plan.total_timesteps - done.steps) // plan.batch_size))
        used = ledger.fraction(done, plan=plan)
        rate = plans.linear(plan.learning_rate, plan.learning_rate_final, used=used)
        for _ in range(updates):
            rows = rng.integers(len(self._data), size=plan.batch_size)
            self._engine.update(self._data.take(rows), rng=rng, learning_rate=rate)
        stats = self._engine.stats()
        if "q_mean" in stats:  # in the env's rewards
            stats = {**stats, "q_mean": stats["q_mean"] * self._scale}
        self._stats = {**self._told, **stats, "learning_rate": rate}
        done.steps += updates * plan.batch_size
        done.rows = done.steps
        done.iteration += 1
        cpu = time.process_time()
        done.cpu_s += cpu - self._cpu_before
        self._cpu_before = cpu

    def state(self) -> State:
        return self._engine.state()

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint. Raises InvalidInput where the data has changed since."""
        before, now = ledger.observations, self._ledger.observations
        if before.count != now.count or not np.allclose(before.mean, now.mean, rtol=1e-6, atol=1e-9):
            raise InvalidInput(
                "dataset of a resumed training",
                given=f"{int(now.count)} rows",
                expected=f"the {int(before.count)} rows that it began with",
                cure="Start a new training on the data as it is now, or train from an export, which stays as it is.",
            )
        self._engine.load_state(state)
        self._ledger = ledger

    def policies(self) -> Mapping[str, Trained]:
        """The policy with the data's statistics frozen."""
        learnt = self._engine.learnt()
        return {
            "": Trained(
                network=self._program(learnt),
                head=learnt.head,
                decoder=decoders.for_action_space(self._action_space),
                serving=learnt.serving,
            )
        }

    def stop(self) -> None:
        """Nothing is held."""

    def _program(self, learnt: Learnt) -> network.Network:
        mean, scale = columns.scale_of(self._ledger.observations)
        last = len(learnt.net.weights) - 1
        return network.Network(
            layers=tuple(
                network.Layer(
                    weight=weight.copy(),
                    bias=bias.copy(),
                    activation=self._plan.activation if layer < last else "linear",
                )
                for layer, (weight, bias) in enumerate(zip(learnt.net.weights, learnt.net.biases, strict=True))
            ),
            normaliser=network.Normaliser(mean=mean, std=scale, clip=columns.NORMALISED_LIMIT)
            if self._plan.normalise_observations
            else None,
            log_std=None if learnt.log_std is None else learnt.log_std.copy(),
            parts=learnt.parts,
        )

    def _prepared(self, data: Dataset) -> Dataset:
        """Observations normalised once for all, rewards scaled."""
        scale = np.float32(self._scale)
        if not self._plan.normalise_observations:
            return replace(data, rewards=data.rewards / scale, returns=data.returns / scale)
        mean, spread = columns.scale_of(self._ledger.observations)

        def normal(observations: F32) -> F32:
            return columns.normalise(observations, mean=mean, scale=spread)

        return replace(
            data,
            observations=normal(data.observations),
            following=normal(data.following),
            ends=normal(data.ends),
            rewards=data.rewards / scale,
            returns=data.returns / scale,
        )


def scale_of(returns: F32) -> float:
    """The standard deviation of returns (n,); 1 where all are alike."""
    spread = float(returns.std(dtype=np.float64))
    return spread if spread > 1e-8 * max(1.0, float(np.abs(returns).max(initial=0.0))) else 1.0


def _complete(data: Dataset, *, plan: OfflinePlan) -> Dataset:
    if not data.complete.any():
        raise InvalidInput(
            "dataset",
            given=f"{len(data)} rows, none with an end or a next observation",
            expected=f"transitions that {plan.algorithm} can value",
            cure="Report `done` with an episode's last reward; bc needs no ends.",
        )
    return data.take(data.complete)
