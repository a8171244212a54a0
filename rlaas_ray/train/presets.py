"""Presets: a TrainSpec's open fields closed, from the env's preset, then from defaults that are measured to learn.

Called by runner.py and by doors that show what a run will do. Pure: never makes an env; spaces and presets are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gymnasium

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import spaces
from rlaas_ray.specs.train import Network, TrainSpec
from rlaas_ray.train import heads, network
from rlaas_ray.train.analytic import Loss
from rlaas_ray.train.network import Activation
from rlaas_ray.train.plans import BUDGETS, Plan
from rlaas_ray.train.sampler import Sampling
from rlaas_ray.train.worlds import Worlds

# CartPole and its like: 475 within 150,000 steps in 12 of 12 seeds, where rl-zoo's gamma 0.98 and lambda 0.8 missed 5 of them.
DISCRETE: Mapping[str, Any] = {
    "learning_rate": 1e-3,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "batch_size": 1024,
    "envs": 32,
    "normalise_observations": True,
    "scale_rewards": False,
}
# Continuous control: the defaults of PPO's paper with observations and rewards normalised (Andrychowicz et al. 2021).
BOX: Mapping[str, Any] = {
    "learning_rate": 1e-3,
    "gamma": 0.95,
    "gae_lambda": 0.95,
    "batch_size": 1024,
    "envs": 16,
    "normalise_observations": True,
    "scale_rewards": True,
}
COMMON: Mapping[str, Any] = {
    "clip": 0.2,
    "entropy_coefficient": 0.0,
    "value_coefficient": 0.5,
    "gradient_clip": 0.5,
    "log_std_initial": 0.0,
    "minibatch_size": 256,
    "epochs": 10,
    "network": Network(),
    "policy_gain": 0.01,
    "share": 1.0,
    "total_timesteps": 100_000,
    "serving": None,
}
LEARNING_RATE_LEFT = 0.1  # of the learning rate, at the end of the budget
# RLlib's own default. On two cores as fast as one runner on CartPole; heavier envs were not compared.
ENV_RUNNERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoPlan(Plan):
    """A training by PPO with nothing left open."""

    gae_lambda: float
    clip: float
    entropy_coefficient: float
    value_coefficient: float
    gradient_clip: float
    learning_rate: float
    learning_rate_final: float
    minibatch_size: int  # rows
    epochs: int
    share: float  # of the rows, in each epoch
    scale_rewards: bool
    hidden: tuple[int, ...]
    activation: Activation
    log_std_initial: float
    policy_gain: float


def resolve(spec: TrainSpec, *, action_space: gymnasium.Space[Any], preset: Mapping[str, Any] | None = None) -> PpoPlan:
    """The plan: the spec's own fields, else the env's preset, else the defaults for this kind of action."""
    chosen = _layers(spec, action_space=action_space, preset=preset or {})
    runners = int(chosen["num_env_runners"])
    envs = spec.num_envs_per_runner or max(1, int(chosen["envs"]) // max(1, runners))
    layers = Network.model_validate(chosen["network"])
    rate = float(chosen["learning_rate"])
    budgets = {name: chosen[name] for name in BUDGETS}
    given = {name: getattr(spec, name) for name in BUDGETS}
    if any(value is not None for value in given.values()):
        budgets = given  # whoever names a budget means that one, not the preset's beside it
    named = {field.name for field in fields(PpoPlan)}
    plain = {name: value for name, value in chosen.items() if name in named and name not in BUDGETS}
    plan = {
        **plain,
        **budgets,
        "env": spec.env,
        "algorithm": spec.algorithm,
        "seed": spec.seed,
        "envs": envs,
        "steps": max(1, round(int(chosen["batch_size"]) / (envs * max(1, runners)))),
        "hidden": layers.hidden,
        "activation": layers.activation,
        "learning_rate": rate,
        "learning_rate_final": chosen.get("learning_rate_final")
        if chosen.get("learning_rate_final") is not None
        else rate * LEARNING_RATE_LEFT,
        "num_env_runners": runners,
    }
    return PpoPlan(**plan)


def _layers(spec: TrainSpec, *, action_space: gymnasium.Space[Any], preset: Mapping[str, Any]) -> dict[str, Any]:
    kind = BOX if isinstance(action_space, gymnasium.spaces.Box) else DISCRETE
    known = {field.name for field in fields(PpoPlan)} | set(TrainSpec.model_fields) | {"envs"}
    unknown = sorted(set(preset) - known)
    if unknown:
        raise InvalidInput(f"preset of {spec.env}", given=unknown, expected=f"fields of TrainSpec or {sorted(known)}")
    chosen: dict[str, Any] = {
        **dict.fromkeys((*BUDGETS, "stop_at_return")),
        "num_env_runners": ENV_RUNNERS,
        **COMMON,
        **kind,
    }
    named = dict(preset)
    if "num_envs_per_runner" in named:
        named["envs"] = named.pop("num_envs_per_runner")
    if any(name in named for name in BUDGETS):
        chosen["total_timesteps"] = None
    chosen.update(named)
    own = spec.model_dump(exclude_none=True)
    chosen.update({name: value for name, value in own.items() if name in known})
    return chosen


def shape_of(plan: PpoPlan, worlds: Worlds) -> network.Shape:
    """The network's shape."""
    head = heads.head_of(worlds.action_space)
    return network.Shape(
        inputs=spaces.encoded_size(worlds.observation_space),
        hidden=plan.hidden,
        activation=plan.activation,
        outputs=head.size - head.free,
        free=head.free,
    )


def sampling_of(plan: PpoPlan) -> Sampling:
    """What each runner collects."""
    return Sampling(
        envs=plan.envs,
        steps=plan.steps,
        gamma=plan.gamma,
        gae_lambda=plan.gae_lambda,
        normalise_observations=plan.normalise_observations,
        scale_rewards=plan.scale_rewards,
    )


def loss_of(plan: PpoPlan) -> Loss:
    """The coefficients of the loss."""
    return Loss(
        clip=plan.clip,
        value_coefficient=plan.value_coefficient,
        entropy_coefficient=plan.entropy_coefficient,
        gradient_clip=plan.gradient_clip,
    )
