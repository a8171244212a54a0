"""ColumnarPPO: RLlib's PPO with our iteration: sample columns with the newest weights, learn, repeat.

Built by the ppo family when a plan wants actors. Weights go out with every request, so restarts and restores need no sync (trap
T1); `training_step` returns None as RLlib demands. RLlib's result dict is not read: the loop's ledger is the run's truth.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ray.exceptions import RayActorError
from ray.rllib.algorithms.ppo import PPO  # noqa: TID251
from ray.tune.registry import register_env

from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train import network, ppo
from rlaas_ray.train.analytic import Weights
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.loop import Loop
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.rllib import config as configs
from rlaas_ray.train.rllib import learner as learners
from rlaas_ray.train.rllib import runners
from rlaas_ray.train.seam import Build, LearnerLost, Situation, State, Trained

ENV_NAME = "rlaas-columns"


class ColumnarPPO(PPO):
    """RLlib's Algorithm, and a seam.Trainer; use `build`."""

    @classmethod
    def get_default_config(cls) -> Any:
        """What Tune and checkpoints make before they fill it."""
        return configs.ColumnarConfig()

    def setup(self, config: Any) -> None:
        """RLlib's set-up, then an empty ledger."""
        super().setup(config)
        self.runners = runners.of(self)
        self.loop = Loop(
            self.config.plan,
            ledger=ledgers.new(self.config.shape.inputs),
            parameters=self.weights().parameters,
            collect=self._collect,
            learn=self._learn,
        )

    @property
    def ledger(self) -> Ledger:
        """What happened so far."""
        return self.loop.ledger

    @property
    def stats(self) -> Mapping[str, float]:
        """Of the last update."""
        return self.loop.stats

    def training_step(self) -> None:
        """Iterations for a slice of time: RLlib's own bookkeeping around a step is paid once for all of them."""
        self.loop.run(slice_s=self.config.slice_s)

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Nobody is waited for: runners.py takes back whoever answers again."""
        return []

    def weights(self) -> Weights:
        """The learner's, whole."""
        found: Weights = self._on_first_learner(learners.ColumnarLearner.weights)
        return found

    def state(self) -> State:
        """A checkpoint's arrays."""
        return ppo.to_state(self.weights())

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint."""
        weights = ppo.from_state(state, like=self.loop.parameters)
        self.learner_group.foreach_learner(lambda learner, weights=weights: learner.set_weights(weights))
        self.loop.ledger = ledger
        self.loop.parameters = weights.parameters

    def policies(self) -> Mapping[str, Trained]:
        """What to export."""
        return ppo.trained(
            self.weights().parameters,
            plan=self.config.plan,
            worlds=self.config.worlds,
            observations=self.loop.ledger.observations,
        )

    def restore_from_path(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """RLlib's restore; the next request carries what it brought."""
        super().restore_from_path(path, *args, **kwargs)
        self.loop.parameters = self.weights().parameters

    def set_state(self, state: dict[str, Any]) -> None:
        """RLlib's; the next request carries what it brought."""
        super().set_state(state)
        self.loop.parameters = self.weights().parameters

    def _setup_logdir(self) -> None:
        self._logdir = configs.log_directory(self.config)

    def _collect(self, request: Request) -> Sequence[Fragment]:
        if self.runners is None:
            return [self.env_runner.sample(request=request)]
        fragments = self.runners.collect(request)
        self.loop.ledger.cpu_s += sum(fragment.cpu_s for fragment in fragments)
        return fragments

    def _learn(self, fragments: Sequence[Fragment], situation: Situation) -> tuple[F32, dict[str, float]]:
        prepared = ppo.prepare(fragments, plan=self.config.plan, situation=situation)
        if prepared is None:
            return self.loop.parameters, {}
        batch, schedule = prepared
        with learning():
            self.learner_group.update(batch=learners.to_batch(batch), schedule=schedule)
        parameters, stats, cpu_s = self._on_first_learner(learners.ColumnarLearner.after_update)
        self.loop.ledger.cpu_s += cpu_s * self.config.num_learners
        policy = network.Network(parameters, self.config.shape)
        dead = ppo.dead_units(policy, batch.observations[: ppo.DEAD_ROWS])
        return parameters, {**stats, "learning_rate": schedule.learning_rate, "dead_units": dead}

    def _on_first_learner(self, call: Any) -> Any:
        """The first learner's answer: after an update all are equal."""
        return on_first_learner(self, call)


def on_first_learner(algorithm: Any, call: Any) -> Any:
    """What `call(learner)` gives on the first learner, here or in its actor."""
    ids = [0] if algorithm.config.num_learners else None
    with learning():
        found = next(iter(algorithm.learner_group.foreach_learner(call, remote_actor_ids=ids)), None)
    if found is None or not found.ok:
        error = None if found is None else found.get()
        if error is None or isinstance(error, RayActorError):
            raise _lost(error)
        raise error
    return found.get()


@contextlib.contextmanager
def learning() -> Iterator[None]:
    """A learner's death as LearnerLost; what its code raised, as it is."""
    try:
        yield
    except RayActorError as error:
        raise _lost(error) from error


def _lost(error: object) -> LearnerLost:
    return LearnerLost("the learner has died", given=str(error)[:200], cure="`rlaas runs resume` goes on.")


def build(given: Build[PpoPlan]) -> ColumnarPPO:
    """The algorithm, its env runners and its learner, on the Ray that this process is connected to."""
    quiet()
    return ColumnarPPO(config=configs.configure(given))


def quiet() -> None:
    """RLlib asks for a registered env and logs much."""
    register_env(ENV_NAME, _unused)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)


def _unused(_: Any) -> Any:
    msg = "columnar runners make their own vector envs"
    raise AssertionError(msg)
