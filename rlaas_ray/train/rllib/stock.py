"""A Trainer around RLlib's own Algorithm: its env runners, connectors, replay and learners, unchanged.

Built by the stock family (`fast: off`). The ledger counts what the envs themselves recorded (stock_env.py): RLlib's own return is
no 100-episode mean (trap T2). Never samples or learns by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.rllib.connectors.env_to_module import MeanStdFilter  # noqa: TID251
from ray.rllib.core import COMPONENT_ENV_TO_MODULE_CONNECTOR, DEFAULT_MODULE_ID  # noqa: TID251
from ray.rllib.utils.filter import RunningStat  # noqa: TID251
from ray.rllib.utils.metrics import (  # noqa: TID251
    ENV_RUNNER_RESULTS,
    LEARNER_RESULTS,
    NUM_ENV_STEPS_SAMPLED_LIFETIME,
)
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger  # noqa: TID251

from rlaas_ray.errors import RlaasError, WorkFailed
from rlaas_ray.policies import spaces
from rlaas_ray.train import columns
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train.columns import Moments
from rlaas_ray.train.fragments import Fragment
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.rllib import algorithm as algorithms
from rlaas_ray.train.rllib import stock_config, stock_env, stock_module
from rlaas_ray.train.rllib.stock_env import Told
from rlaas_ray.train.seam import Build, State, Trained, Trainer
from rlaas_ray.train.stock import StockPlan

# RLlib's names -> ours (docs/training.md)
_NAMES: Mapping[str, str] = {
    "policy_loss": "policy_loss",
    "vf_loss": "vf_loss",
    "entropy": "entropy",
    "mean_kl_loss": "mean_kl",
    "total_loss": "total_loss",
    "default_optimizer_learning_rate": "learning_rate",
    "gradients_default_optimizer_global_norm": "gradient_norm",
    "qf_mean": "q_mean",
    "qf_loss": "critic_loss",
    "td_error_mean": "td_error_mean",
    "alpha_value": "alpha",
}
_FILTER = "normaliser"


class StockTrainer(Trainer):
    """Iterations of RLlib's Algorithm, told in our words."""

    def __init__(self, given: Build[StockPlan]) -> None:
        self._plan, self._worlds, self._slice_s = given.plan, given.worlds, given.slice_s
        self._ledger = ledgers.new(spaces.encoded_size(given.worlds.observation_space))
        self._stats: dict[str, float] = {}
        algorithms.quiet()
        stock_env.register()
        self.algorithm: Any = stock_config.configure(given).build_algo()
        if isinstance(given.plan.settings, PpoPlan) and given.plan.settings.log_std_initial:
            start = given.plan.settings.log_std_initial
            self._on_learners(lambda learner: stock_module.start_at(learner, start))
            self._sync()
        self._used = self._cpu_by_process(self._drain())  # what starting cost is nobody's training

    @property
    def ledger(self) -> Ledger:
        return self._ledger

    @property
    def stats(self) -> Mapping[str, float]:
        return self._stats

    def train(self) -> None:
        """Iterations for a slice of time; one at least."""
        started = time.monotonic()
        while True:
            self._once()
            if ledgers.finished(self._ledger, plan=self._plan) or time.monotonic() - started >= self._slice_s:
                return

    def state(self) -> State:
        """Module, optimisers, temperature and RLlib's observation filter; not its replay buffer."""
        found: State = algorithms.on_first_learner(self.algorithm, stock_module.state)
        if not self._plan.normalise_observations:
            return found
        stats = self._filter()
        return {
            **found,
            f"{_FILTER}.count": np.array([stats.num_pushes], dtype=np.int64),
            f"{_FILTER}.mean": stats.mean_array.copy(),
            f"{_FILTER}.deviations": stats.sum_sq_diff_array.copy(),
        }

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Go on from a checkpoint: RLlib's counters and schedules too."""
        self._on_learners(lambda learner, state=state: stock_module.load_state(learner, state))
        self._ledger = ledger
        counted = MetricsLogger(root=False)  # as an env runner would tell it
        counted.log_value(NUM_ENV_STEPS_SAMPLED_LIFETIME, ledger.steps, reduce="lifetime_sum", with_throughput=True)
        self.algorithm.metrics.aggregate([counted.reduce()], key=ENV_RUNNER_RESULTS)
        told: dict[str, Any] = {NUM_ENV_STEPS_SAMPLED_LIFETIME: ledger.steps}
        if f"{_FILTER}.count" in state:
            told[COMPONENT_ENV_TO_MODULE_CONNECTOR] = self._filtering(state)
        self.algorithm.env_runner_group.foreach_env_runner(lambda env_runner: env_runner.set_state(told))
        self._sync()

    def policies(self) -> Mapping[str, Trained]:
        named = algorithms.on_first_learner(self.algorithm, stock_module.parameters)
        seen = self._seen() if self._plan.normalise_observations else self._ledger.observations
        return stock_module.trained(named, plan=self._plan, worlds=self._worlds, observations=seen)

    def stop(self) -> None:
        """Release actors and envs."""
        self.algorithm.stop()

    def _once(self) -> None:
        try:
            result = self.algorithm.train()
        except RlaasError:
            raise
        except Exception as error:
            raise WorkFailed(
                f"RLlib's own training of {self._plan.env}",
                given=f"{type(error).__name__}: {error}"[:500],
                expected="an iteration that returns",
                cure=f"`rlaas env check {self._plan.env}` runs the env alone; `fast: auto` survives an env that breaks.",
            ) from error
        self._count()
        self._ledger.iteration += 1
        learnt = result.get(LEARNER_RESULTS, {}).get(DEFAULT_MODULE_ID, {})
        values = {ours: float(learnt[theirs]) for theirs, ours in _NAMES.items() if theirs in learnt}
        self._stats = {name: value for name, value in values.items() if np.isfinite(value)} or self._stats

    def _count(self) -> None:
        """What the envs recorded, in the order of runners; and everybody's CPU seconds."""
        told = self._drain()
        self._ledger.absorb([self._fragment(one.steps, one.episodes) for one in told])
        used = self._cpu_by_process(told)
        self._ledger.cpu_s += sum(cpu_s - self._used.get(process, 0.0) for process, cpu_s in used.items())
        self._used |= used

    def _drain(self) -> list[Told]:
        group = self.algorithm.env_runner_group
        found: list[Told] = group.foreach_env_runner(stock_env.drain, local_env_runner=group.num_remote_workers() == 0)
        return found

    def _cpu_by_process(self, told: list[Told]) -> dict[int, float]:
        return {one.process: one.cpu_s for one in told} | {os.getpid(): time.process_time()}

    def _fragment(self, steps: int, episodes: list[tuple[float, int]]) -> Fragment:
        return Fragment(
            columns=None,
            observations=columns.no_moments(self._ledger.observations.mean.shape[0]),
            returns=columns.no_moments(1),
            episode_returns=np.array([total for total, _ in episodes], dtype=np.float64),
            episode_lengths=np.array([length for _, length in episodes], dtype=np.int64),
            steps=steps,
            rows=steps,
            cpu_s=0.0,
        )

    def _on_learners(self, call: Any) -> None:
        for answer in self.algorithm.learner_group.foreach_learner(call):
            answer.get()

    def _sync(self) -> None:
        self.algorithm.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.algorithm.learner_group, inference_only=True
        )

    def _seen(self) -> Moments:
        """RLlib's filter as moments; it divides by the sample's deviation, n - 1."""
        stats = self._filter()
        count = float(stats.num_pushes)
        if count < 2:
            return columns.no_moments(stats.mean_array.shape[0])
        deviations = stats.sum_sq_diff_array.astype(np.float64) * (count / (count - 1))
        return Moments(count=count, mean=stats.mean_array.astype(np.float64), deviations=deviations)

    def _filter(self) -> RunningStat:
        _, filtering = self._filter_state()
        return RunningStat.from_state(filtering[None]["running_stats"][0])

    def _filtering(self, state: State) -> dict[str, Any]:
        """The state of RLlib's connector pipeline with our stored statistics in its filter."""
        whole, filtering = self._filter_state()
        stats = RunningStat.from_state(filtering[None]["running_stats"][0])
        stats.num_pushes = int(state[f"{_FILTER}.count"][0])
        stats.mean_array = state[f"{_FILTER}.mean"].copy()
        stats.sum_sq_diff_array = state[f"{_FILTER}.deviations"].copy()
        filtering[None]["running_stats"] = [stats.to_state()]
        return whole

    def _filter_state(self) -> tuple[dict[str, Any], dict[Any, Any]]:
        whole = self.algorithm.env_runner.get_state(components=[COMPONENT_ENV_TO_MODULE_CONNECTOR])
        pipeline: dict[str, Any] = whole[COMPONENT_ENV_TO_MODULE_CONNECTOR]
        return pipeline, next(part for name, part in pipeline.items() if MeanStdFilter.__name__ in name)


def build(given: Build[StockPlan]) -> StockTrainer:
    """The trainer, on the Ray that this process is connected to."""
    return StockTrainer(given)
