"""HostedAlgorithm: RLlib's Algorithm, EnvRunner and Learner around a family's Parts, whatever the family.

Built by hosts.columnar when a plan wants actors. Env runners give fragments, one Learner (here, or an actor with a GPU) holds the
family's Learning; RLlib keeps the runners alive. Data-parallel learners are PPO's (algorithm.py).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ray.rllib.algorithms.algorithm import Algorithm  # noqa: TID251
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig  # noqa: TID251
from ray.rllib.core.learner.torch.torch_learner import TorchLearner  # noqa: TID251
from ray.rllib.core.rl_module.rl_module import RLModuleSpec  # noqa: TID251
from ray.rllib.core.rl_module.torch import TorchRLModule  # noqa: TID251

from rlaas_ray.errors import NotBuilt
from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train import threads
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.loop import Loop
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.rllib import algorithm as algorithms
from rlaas_ray.train.rllib import config as configs
from rlaas_ray.train.rllib import runners
from rlaas_ray.train.seam import Buffered, Build, Learning, Parts, PlanT, Situation, State, Trained
from rlaas_ray.train.worlds import Worlds


class HostedConfig(AlgorithmConfig):
    """An AlgorithmConfig that also carries the family's parts, the plan and the worlds to every actor."""

    plan: Plan
    worlds: Worlds
    parts: Parts[Any]
    slice_s: float = 0.5
    log_directory: str

    def get_default_learner_class(self) -> type:
        """Ours."""
        return HostedLearner

    def get_default_rl_module_spec(self) -> RLModuleSpec:
        """A module without parameters: the family's Learning owns them."""
        return RLModuleSpec(
            module_class=NoModule, observation_space=configs.box(self.worlds), action_space=self.worlds.action_space
        )


class NoModule(TorchRLModule):
    """What RLlib's Learner demands and a family's Learning does not need."""

    def setup(self) -> None:
        self.register_buffer("nothing", torch.zeros(1))

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {}


class HostedLearner(TorchLearner):
    """RLlib's Learner as the place where a family's Learning lives."""

    learning: Learning

    def build(self) -> None:
        """RLlib's build, then the family's own."""
        super().build()
        if self.config.num_learners > 0:
            threads.use_one()
        self.learning = self.config.parts.learning(self.config.plan, self.config.worlds)
        self._cpu_before = time.process_time()

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """None: the family's Learning has its own."""

    def compute_loss_for_module(self, **kwargs: Any) -> Any:
        """Never asked: `learn` does the whole update."""
        raise NotImplementedError

    def learn(self, fragments: Sequence[Fragment], situation: Situation) -> tuple[F32, dict[str, float], float]:
        """The family's update; gives what sampling needs next, how it went, and CPU seconds since the last one."""
        stats = self.learning.learn(fragments, situation=situation)
        self._weights_seq_no += 1
        cpu = time.process_time()
        used, self._cpu_before = cpu - self._cpu_before, cpu
        return self.learning.parameters().copy(), stats, used


class HostedAlgorithm(Algorithm):
    """RLlib's Algorithm, and a seam.Trainer; use `build`."""

    @classmethod
    def get_default_config(cls) -> Any:
        """What RLlib makes before it fills it."""
        return HostedConfig(algo_class=cls)

    def setup(self, config: Any) -> None:
        """RLlib's set-up, then an empty ledger."""
        super().setup(config)
        self.runners = runners.of(self)
        self.loop = Loop(
            self.config.plan,
            ledger=ledgers.new(spaces.encoded_size(self.config.worlds.observation_space)),
            parameters=self._parameters(),
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
        """Iterations for a slice of time."""
        self.loop.run(slice_s=self.config.slice_s)

    def restore_env_runners(self, env_runner_group: Any) -> list[int]:
        """Nobody is waited for: runners.py takes back whoever answers again."""
        return []

    def state(self) -> State:
        """A checkpoint's arrays."""
        found: State = algorithms.on_first_learner(self, _state)
        return found

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint."""
        self.learner_group.foreach_learner(lambda learner, state=state: learner.learning.load_state(state))
        self.loop.ledger = ledger
        self.loop.parameters = self._parameters()

    def save_buffer(self, directory: Path) -> None:
        """What the learning keeps beside its state, written where the learner is: `directory` must be shared with its node."""
        algorithms.on_first_learner(self, lambda learner: _save_buffer(learner.learning, directory))

    def load_buffer(self, directory: Path) -> bool:
        """The inverse."""
        return bool(algorithms.on_first_learner(self, lambda learner: _load_buffer(learner.learning, directory)))

    def policies(self) -> Mapping[str, Trained]:
        """What to export."""
        observations = self.loop.ledger.observations
        found: Mapping[str, Trained] = algorithms.on_first_learner(
            self, lambda learner: learner.learning.policies(observations=observations)
        )
        return found

    def _setup_logdir(self) -> None:
        self._logdir = configs.log_directory(self.config)

    def _parameters(self) -> F32:
        found: F32 = algorithms.on_first_learner(self, lambda learner: learner.learning.parameters().copy())
        return found

    def _collect(self, request: Request) -> Sequence[Fragment]:
        if self.runners is None:
            return [self.env_runner.sample(request=request)]
        fragments = self.runners.collect(request)
        self.loop.ledger.cpu_s += sum(fragment.cpu_s for fragment in fragments)
        return fragments

    def _learn(self, fragments: Sequence[Fragment], situation: Situation) -> tuple[F32, dict[str, float]]:
        parameters, stats, cpu_s = algorithms.on_first_learner(
            self, lambda learner: learner.learn(fragments, situation)
        )
        self.loop.ledger.cpu_s += cpu_s * self.config.num_learners
        return parameters, stats


def _save_buffer(learning: Learning, directory: Path) -> None:
    if isinstance(learning, Buffered):
        learning.save_buffer(directory)


def _load_buffer(learning: Learning, directory: Path) -> bool:
    return isinstance(learning, Buffered) and learning.load_buffer(directory)


def _state(learner: HostedLearner) -> State:
    return learner.learning.state()


def build(parts: Parts[PlanT], given: Build[PlanT]) -> HostedAlgorithm:
    """The algorithm, its env runners and its learner, on the Ray that this process is connected to."""
    if given.plan.num_learners > 1:
        raise NotBuilt(
            f"{given.plan.algorithm} with {given.plan.num_learners} learners",
            expected="num_learners: 0 or 1",
            cure="Data-parallel learners are PPO's; give this one more env runners, or a GPU.",
        )
    algorithms.quiet()
    config = HostedConfig(algo_class=HostedAlgorithm)
    config.parts = parts
    configs.place(config, given)
    return HostedAlgorithm(config=config)
