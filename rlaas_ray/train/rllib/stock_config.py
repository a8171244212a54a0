"""RLlib's own configs from our plans: every field of a spec under the name that RLlib has for it.

Called by stock.py. Where units differ it is said beside the field. Never sets what a spec cannot say.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig  # noqa: TID251
from ray.rllib.algorithms.dqn import DQN, DQNConfig  # noqa: TID251
from ray.rllib.algorithms.ppo import PPO, PPOConfig  # noqa: TID251
from ray.rllib.algorithms.sac import SAC, SACConfig  # noqa: TID251
from ray.rllib.connectors.env_to_module import MeanStdFilter  # noqa: TID251
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig  # noqa: TID251

from rlaas_ray.train import heads
from rlaas_ray.train.actor_critic import plan as actor_critic
from rlaas_ray.train.actor_critic.plan import SacPlan
from rlaas_ray.train.columns import NORMALISED_LIMIT
from rlaas_ray.train.dqn.plan import DqnPlan
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.rllib import config as configs
from rlaas_ray.train.rllib import stock_env
from rlaas_ray.train.seam import Build
from rlaas_ray.train.stock import StockPlan
from rlaas_ray.train.worlds import Worlds

_ENTROPY_SHARE = 0.98  # of log n: the target of discrete SAC (Christodoulou 2019)
ReplayPlan = DqnPlan | SacPlan


class _InItsFolder:
    """RLlib would make a folder below ~/ray_results for every algorithm."""

    config: Any

    def _setup_logdir(self) -> None:
        self._logdir = configs.log_directory(self.config)


class StockPPO(_InItsFolder, PPO):
    """RLlib's PPO."""


class StockDQN(_InItsFolder, DQN):
    """RLlib's DQN."""


class StockSAC(_InItsFolder, SAC):
    """RLlib's SAC."""


def configure(given: Build[StockPlan]) -> AlgorithmConfig:
    """The config, whole."""
    plan = given.plan
    match plan.settings:
        case PpoPlan():
            config = _ppo(plan.settings, given.worlds)
        case DqnPlan():
            config = _dqn(plan.settings)
        case SacPlan():
            config = _sac(plan.settings, given.worlds)
    config.log_directory = str(given.directory / "rllib")
    config.environment(stock_env.NAME, env_config={"worlds": given.worlds}, disable_env_checking=True)
    config.env_runners(
        num_env_runners=plan.num_env_runners,
        num_envs_per_env_runner=plan.envs,
        num_cpus_per_env_runner=given.actor_cpus,
        rollout_fragment_length=plan.steps,
        sample_timeout_s=configs.SAMPLE_TIMEOUT_S,
        env_to_module_connector=_normalise if plan.normalise_observations else None,
    )
    config.learners(
        num_learners=plan.num_learners,
        num_gpus_per_learner=plan.gpus_per_learner,
        num_cpus_per_learner=given.actor_cpus,
    )
    config.fault_tolerance(
        restart_failed_env_runners=True,
        delay_between_env_runner_restarts_s=1.0,
        max_num_env_runner_restarts=1000,
        env_runner_health_probe_timeout_s=5,
    )
    config.debugging(seed=plan.seed, log_level="ERROR")
    config.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=0)
    return config


def _ppo(plan: PpoPlan, worlds: Worlds) -> PPOConfig:
    config = PPOConfig(algo_class=StockPPO)
    config.training(
        lr=_schedule(plan),
        gamma=plan.gamma,
        lambda_=plan.gae_lambda,
        clip_param=plan.clip,
        vf_loss_coeff=plan.value_coefficient,
        vf_clip_param=float("inf"),
        entropy_coeff=plan.entropy_coefficient,
        use_kl_loss=False,
        grad_clip=plan.gradient_clip,
        grad_clip_by="global_norm",
        num_epochs=plan.epochs,
        minibatch_size=min(plan.minibatch_size, plan.batch // max(1, plan.num_learners)),
        train_batch_size_per_learner=plan.batch // max(1, plan.num_learners),
    )
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(plan.hidden),
            fcnet_activation=plan.activation,
            vf_share_layers=False,
            free_log_std=heads.head_of(worlds.action_space).gaussian,
        )
    )
    return config


def _dqn(plan: DqnPlan) -> DQNConfig:
    config = DQNConfig(algo_class=StockDQN)
    streams = (
        plan.dueling and len(plan.hidden) > 1
    )  # the last hidden layer is each stream's own, as on the columnar path
    config.training(
        lr=_schedule(plan),
        epsilon=_line(
            plan.epsilon_initial, plan.epsilon_final, steps=plan.epsilon_fraction * (plan.total_timesteps or 0)
        ),
        double_q=plan.double,
        dueling=plan.dueling,
        num_atoms=plan.atoms,
        v_min=plan.v_min,
        v_max=plan.v_max,
        **_replayed(plan),
    )
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(plan.hidden[:-1] if streams else plan.hidden),
            fcnet_activation=plan.activation,
            head_fcnet_hiddens=list(plan.hidden[-1:]) if streams else [],
            head_fcnet_activation=plan.activation,
        )
    )
    return config


def _sac(plan: SacPlan, worlds: Worlds) -> SACConfig:
    config = SACConfig(algo_class=StockSAC)
    actions = actor_critic.actions_of(worlds)
    usual = _ENTROPY_SHARE * float(np.log(actions)) if actor_critic.is_discrete(worlds) else -float(actions)
    alpha_rate = plan.alpha_learning_rate or plan.learning_rate
    config.training(
        lr=None,
        actor_lr=_schedule(plan),
        critic_lr=_schedule(plan),
        alpha_lr=0.0 if plan.alpha_fixed else alpha_rate,
        initial_alpha=plan.alpha_initial,
        target_entropy=usual if plan.entropy_target is None else plan.entropy_target,
        twin_q=True,
        **_replayed(plan),
    )
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=list(plan.hidden), fcnet_activation=plan.activation, head_fcnet_hiddens=[]
        )
    )
    return config


def _replayed(plan: ReplayPlan) -> dict[str, Any]:
    """Replay, targets and how many updates a step; RLlib counts its intensity in rows and one runner too many."""
    sampled = plan.envs * plan.steps
    native = plan.batch_size / (sampled * (plan.num_env_runners + 1))
    updates = plan.updates_per_step * sampled * max(1, plan.num_env_runners)
    buffer: dict[str, Any] = {"type": "EpisodeReplayBuffer", "capacity": plan.buffer_size}
    if plan.prioritised:  # beta stays as it starts: RLlib has no schedule for it
        buffer |= {
            "type": "PrioritizedEpisodeReplayBuffer",
            "alpha": plan.priority_alpha,
            "beta": plan.priority_beta,
        }
    return {
        "gamma": plan.gamma,
        "grad_clip": plan.gradient_clip,
        "grad_clip_by": "global_norm",
        "n_step": plan.n_step,
        "tau": plan.tau,
        # env steps, where ours are updates; 0: at every update
        "target_network_update_freq": 0 if plan.target_every == 1 else round(plan.target_every / plan.updates_per_step),
        "train_batch_size_per_learner": plan.batch_size,
        "num_steps_sampled_before_learning_starts": plan.learning_starts,
        "training_intensity": updates * native,
        "replay_buffer_config": buffer,
    }


def _schedule(plan: PpoPlan | ReplayPlan) -> Any:
    return _line(plan.learning_rate, plan.learning_rate_final, steps=plan.total_timesteps or 0)


def _line(start: float, end: float, *, steps: float) -> Any:
    """RLlib's schedule: linear over env steps."""
    return start if start == end else [[0, start], [max(1, round(steps)), end]]


def _normalise(*_: Any, **__: Any) -> MeanStdFilter:
    return MeanStdFilter(clip_by_value=NORMALISED_LIMIT)
