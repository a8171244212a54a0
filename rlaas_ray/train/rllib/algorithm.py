"""ColumnarPPO: RLlib's PPO with our iteration: sample columns with the newest weights, learn, repeat.

Built by train/runner.py through `build`. Weights go out with every request, so restarts and restores need no sync (trap T1);
`training_step` returns None as RLlib demands. RLlib's result dict is not read: the loop's ledger is the run's truth.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray.rllib.algorithms.ppo import PPO  # noqa: TID251
from ray.tune.registry import register_env

from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train.analytic import Schedule, Weights
from rlaas_ray.train.columns import Columns
from rlaas_ray.train.iteration import Iterations
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.presets import Plan
from rlaas_ray.train.rllib import config as configs
from rlaas_ray.train.rllib import learner as learners
from rlaas_ray.train.sampler import Fragment, Request
from rlaas_ray.train.worlds import Worlds

ENV_NAME = "rlaas-columns"


class ColumnarPPO(PPO):
    """RLlib's Algorithm, and a Trainer; use `build`."""

    @classmethod
    def get_default_config(cls) -> Any:
        """What Tune and checkpoints make before they fill it."""
        return configs.ColumnarConfig()

    def setup(self, config: Any) -> None:
        """RLlib's set-up, then an empty ledger."""
        super().setup(config)
        self._loop = Iterations(
            self.config.plan,
            ledger=ledgers.new(self.config.shape.inputs),
            parameters=self.weights().parameters,
            collect=self._collect,
            learn=self._learn,
        )

    @property
    def loop(self) -> Iterations:
        """The loop's state."""
        return self._loop

    def training_step(self) -> None:
        """Iterations for a slice of time: RLlib's own bookkeeping around a step is paid once for all of them."""
        self._loop.run(slice_s=self.config.slice_s)

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Bring back runners that died; there is no state to give them."""
        return list(env_runner_group.probe_unhealthy_env_runners() or [])

    def weights(self) -> Weights:
        """The learner's, whole."""
        found: Weights = self._on_first_learner(learners.ColumnarLearner.weights)
        return found

    def go_on_from(self, weights: Weights, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint."""
        self.learner_group.foreach_learner(lambda learner, weights=weights: learner.set_weights(weights))
        self._loop.ledger = ledger
        self._loop.parameters = weights.parameters

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """RLlib's restore; the next request carries what it brought."""
        super().restore_from_path(path, *args, **kwargs)
        self._loop.parameters = self.weights().parameters

    def set_state(self, state: dict[str, Any]) -> None:
        """RLlib's; the next request carries what it brought."""
        super().set_state(state)
        self._loop.parameters = self.weights().parameters

    def _setup_logdir(self) -> None:
        # RLlib would make a folder below ~/ray_results for every algorithm.
        directory = Path(self.config.log_directory)
        directory.mkdir(parents=True, exist_ok=True)
        self._logdir = str(directory)

    def _collect(self, request: Request) -> Sequence[Fragment]:
        if self.env_runner_group.num_remote_workers() == 0:
            return [self.env_runner.sample(request=request)]
        fragments: list[Fragment] = self.env_runner_group.foreach_env_runner(
            "sample",
            kwargs={"request": ray.put(request)},
            local_env_runner=False,
            timeout_seconds=self.config.sample_timeout_s,
        )
        self._loop.ledger.cpu_s += sum(fragment.cpu_s for fragment in fragments)
        return fragments

    def _learn(self, batch: Columns, schedule: Schedule) -> tuple[F32, dict[str, float]]:
        self.learner_group.update(batch=learners.to_batch(batch), schedule=schedule)
        parameters, stats, cpu_s = self._on_first_learner(learners.ColumnarLearner.after_update)
        self._loop.ledger.cpu_s += cpu_s * self.config.num_learners
        return parameters, stats

    def _on_first_learner(self, call: Any) -> Any:
        """The first learner's answer: after an update all are equal."""
        ids = [0] if self.config.num_learners else None
        return next(iter(self.learner_group.foreach_learner(call, remote_actor_ids=ids))).get()


def build(plan: Plan, worlds: Worlds, *, directory: Path, slice_s: float = 0.5, actor_cpus: float = 1) -> ColumnarPPO:
    """The algorithm, its env runners and its learner, on the Ray that this process is connected to."""
    register_env(ENV_NAME, _unused)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    return ColumnarPPO(
        config=configs.configure(plan, worlds, directory=directory, slice_s=slice_s, actor_cpus=actor_cpus)
    )


def _unused(_: Any) -> Any:
    msg = "columnar runners make their own vector envs"
    raise AssertionError(msg)
