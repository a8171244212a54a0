"""The AlgorithmConfigs of columnar training: RLlib's own, with our runner, modules and learners, and what a fault costs.

Made by algorithm.build (PPO) and hosting.build (every other family with Parts). Never read from a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig  # noqa: TID251
from ray.rllib.algorithms.ppo import PPOConfig  # noqa: TID251
from ray.rllib.core.rl_module.rl_module import RLModuleSpec  # noqa: TID251

from rlaas_ray.policies import spaces
from rlaas_ray.train import network, ppo, presets
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.rllib.learner import ColumnarLearner
from rlaas_ray.train.rllib.module import PolicyModule
from rlaas_ray.train.rllib.runner import ColumnarEnvRunner
from rlaas_ray.train.seam import Build, Parts
from rlaas_ray.train.worlds import Worlds

SAMPLE_TIMEOUT_S = 600.0


class ColumnarConfig(PPOConfig):
    """PPOConfig that also carries the plan and the worlds to every actor."""

    plan: PpoPlan
    worlds: Worlds
    parts: Parts[Any]
    slice_s: float = 0.5  # of iterations in one train() call
    log_directory: str  # where RLlib puts what it cannot help writing

    @property
    def shape(self) -> network.Shape:
        """The network's shape."""
        return presets.shape_of(self.plan, self.worlds)

    def validate(self) -> None:
        """RLlib's own checks, but for minibatches: ours are cut evenly from whatever rows came."""
        self.minibatch_size = None
        super().validate()


def configure(given: Build[PpoPlan]) -> ColumnarConfig:
    """PPO's config, whole."""
    plan, worlds = given.plan, given.worlds
    config = ColumnarConfig()
    config.parts = ppo.PARTS
    module = RLModuleSpec(
        module_class=PolicyModule,
        observation_space=box(worlds),
        action_space=worlds.action_space,
        model_config={
            "shape": presets.shape_of(plan, worlds),
            "seed": plan.seed,
            "policy_gain": plan.policy_gain,
            "log_std_initial": plan.log_std_initial,
        },
    )
    place(config, given)
    config.training(**_training(plan), learner_class=ColumnarLearner)
    config.rl_module(rl_module_spec=module)
    return config


def place(config: AlgorithmConfig, given: Build[Any]) -> None:
    """What every family's config says: worlds, runners, learners, faults, logs."""
    plan: Plan = given.plan
    config.plan, config.worlds, config.slice_s = plan, given.worlds, given.slice_s
    config.log_directory = str(given.directory / "rllib")
    config.environment(
        env="rlaas-columns",
        observation_space=box(given.worlds),
        action_space=given.worlds.action_space,
        disable_env_checking=True,
    )
    config.env_runners(
        env_runner_cls=ColumnarEnvRunner,
        num_env_runners=plan.num_env_runners,
        num_envs_per_env_runner=plan.envs,
        num_cpus_per_env_runner=given.actor_cpus,
        rollout_fragment_length=plan.steps,
        sample_timeout_s=SAMPLE_TIMEOUT_S,
        create_local_env_runner=plan.num_env_runners == 0,
        merge_env_runner_states=False,  # there are none; asking a dead actor for them would hold up the iteration
        broadcast_env_runner_states=False,
        validate_env_runners_after_construction=False,  # runners.py waits for them, as long as it is sensible
    )
    config.learners(
        num_learners=plan.num_learners,
        num_gpus_per_learner=plan.gpus_per_learner,
        num_cpus_per_learner=given.actor_cpus,
    )
    config.fault_tolerance(
        restart_failed_env_runners=True,
        restart_failed_sub_environments=True,
        delay_between_env_runner_restarts_s=1.0,
        max_num_env_runner_restarts=1000,
        env_runner_health_probe_timeout_s=5,
    )
    config.debugging(seed=plan.seed, log_level="ERROR")
    config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)


def log_directory(config: Any) -> str:
    """RLlib would make a folder below ~/ray_results for every algorithm."""
    directory = Path(config.log_directory)
    directory.mkdir(parents=True, exist_ok=True)
    return str(directory)


def box(worlds: Worlds) -> gymnasium.spaces.Box:
    """Encoded observations."""
    return gymnasium.spaces.Box(-np.inf, np.inf, (spaces.encoded_size(worlds.observation_space),), np.float32)


def _training(plan: PpoPlan) -> dict[str, Any]:
    return {
        "lr": plan.learning_rate,
        "gamma": plan.gamma,
        "lambda_": plan.gae_lambda,
        "clip_param": plan.clip,
        "vf_loss_coeff": plan.value_coefficient,
        "vf_clip_param": float("inf"),
        "entropy_coeff": plan.entropy_coefficient,
        "use_kl_loss": False,
        "grad_clip": plan.gradient_clip,
        "grad_clip_by": "global_norm",
        "num_epochs": plan.epochs,
        "train_batch_size_per_learner": plan.batch // max(1, plan.num_learners),
    }
