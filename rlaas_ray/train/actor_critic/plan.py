"""The plans of SAC, TD3 and DDPG: a spec with nothing left open, what their engines are told, the layout of their transitions.

Made by family.py, read by explorers.py and learning.py. Pure. The defaults are measured in benchmarks/off_policy_sac.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import spaces
from rlaas_ray.specs.algorithms import DdpgOptions, SacOptions, Td3Options
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.actor_critic import deterministic, sac
from rlaas_ray.train.replay import plan as replay
from rlaas_ray.train.replay import ring
from rlaas_ray.train.replay.plan import ReplayPlan
from rlaas_ray.train.worlds import Worlds

COMMON: Mapping[str, Any] = {
    "envs": 1,
    "steps": 8,
    "gamma": 0.99,
    "normalise_observations": False,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "learning_rate_left": 1.0,
    "gradient_clip": None,
    "hidden": (64, 64),
    "activation": "relu",
    "learning_starts": 500,
    "updates_per_step": 1.0,
    "tau": 0.01,
    "target_every": 1,
    "total_timesteps": 100_000,
}
DISCRETE: Mapping[str, Any] = {
    **COMMON,
    "envs": 8,
    "steps": 4,
    "learning_rate": 2e-3,
    "learning_rate_left": 0.1,
    "updates_per_step": 0.5,
    "tau": 0.02,
}
DELAYED: Mapping[str, Any] = {**COMMON, "learning_rate": 2e-3}  # TD3's actor and targets move at every other update


@dataclass(frozen=True, slots=True, kw_only=True)
class SacPlan(ReplayPlan):
    """A training by SAC with nothing left open."""

    entropy_target: float | None  # nats; None: that of discrete actions, from each batch
    alpha_initial: float
    alpha_learning_rate: float | None
    alpha_fixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeterministicPlan(ReplayPlan):
    """A training by TD3, or by DDPG, with nothing left open."""

    critics: int
    exploration_noise: float
    policy_delay: int
    target_noise: float
    target_noise_clip: float


def resolve(spec: TrainSpec, worlds: Worlds) -> SacPlan | DeterministicPlan:
    """The plan: the spec's own fields and options, else defaults. Raises InvalidInput for actions that cannot be learnt."""
    if not worlds.shared:  # a view's decoder takes what is proposed in [-1, 1] and clips by itself
        _check_actions(spec, space=worlds.action_space)
    if spec.algorithm == "sac":
        return _sac(spec, defaults=_fitted(DISCRETE if is_discrete(worlds) else COMMON, worlds=worlds))
    if spec.algorithm == "td3":
        options = Td3Options.model_validate(spec.options)
        return DeterministicPlan(
            **replay.fields_of(spec, options, defaults=_fitted(DELAYED, worlds=worlds)),
            critics=2,
            exploration_noise=options.exploration_noise,
            policy_delay=options.policy_delay,
            target_noise=options.target_noise,
            target_noise_clip=options.target_noise_clip,
        )
    plain = DdpgOptions.model_validate(spec.options)
    return DeterministicPlan(
        **replay.fields_of(spec, plain, defaults=_fitted(COMMON, worlds=worlds)),
        critics=1,
        exploration_noise=plain.exploration_noise,
        policy_delay=1,
        target_noise=0.0,
        target_noise_clip=0.0,
    )


def _fitted(defaults: Mapping[str, Any], *, worlds: Worlds) -> Mapping[str, Any]:
    """With the discount and the normalisation of a view's own preset: they belong to the env, not to the algorithm."""
    view = worlds.view()
    if view is None:
        return defaults
    return {
        **defaults,
        **{name: view.preset[name] for name in ("gamma", "normalise_observations") if name in view.preset},
    }


def _sac(spec: TrainSpec, *, defaults: Mapping[str, Any]) -> SacPlan:
    options = SacOptions.model_validate(spec.options)
    return SacPlan(
        **replay.fields_of(spec, options, defaults=defaults),
        entropy_target=options.entropy_target,
        alpha_initial=options.alpha_initial,
        alpha_learning_rate=options.alpha_learning_rate,
        alpha_fixed=options.alpha_fixed,
    )


def _check_actions(spec: TrainSpec, *, space: gymnasium.Space[Any]) -> None:
    if spec.algorithm == "sac" and isinstance(space, gymnasium.spaces.Discrete):
        return
    if not isinstance(space, gymnasium.spaces.Box) or not np.issubdtype(space.dtype, np.floating):
        raise InvalidInput(
            f"{spec.algorithm} for {spec.env}",
            given=space,
            expected="a Box of floats" + (" or Discrete actions" if spec.algorithm == "sac" else ""),
            cure="Use ppo, or dqn for Discrete actions.",
        )
    if not space.is_bounded("both"):
        raise InvalidInput(
            f"{spec.algorithm} for {spec.env}",
            given=space,
            expected="finite bounds of every action entry: actions are learnt in [-1, 1] and scaled to them",
            cure="Wrap the env with gymnasium.wrappers.RescaleAction or ClipAction over a bounded Box, or use ppo.",
        )


def is_discrete(worlds: Worlds) -> bool:
    """Whether actions are indices."""
    return isinstance(worlds.action_space, gymnasium.spaces.Discrete)


def actions_of(worlds: Worlds) -> int:
    """Entries of an action, or how many actions there are."""
    space = worlds.action_space
    return int(space.n) if isinstance(space, gymnasium.spaces.Discrete) else spaces.action_size(space)


def soft_settings(plan: SacPlan, worlds: Worlds) -> sac.Settings:
    """What SAC's engines are told; the entropy target of continuous actions is -a (Haarnoja et al. 2018b)."""
    actions = actions_of(worlds)
    target = plan.entropy_target
    return sac.Settings(
        observations=spaces.encoded_size(worlds.observation_space),
        actions=actions,
        hidden=plan.hidden,
        activation=plan.activation,
        tau=plan.tau,
        target_every=plan.target_every,
        gradient_clip=plan.gradient_clip,
        entropy_target=-float(actions) if target is None and not is_discrete(worlds) else target,
        alpha_initial=plan.alpha_initial,
        alpha_learning_rate=plan.alpha_learning_rate,
        alpha_fixed=plan.alpha_fixed,
    )


def deterministic_settings(plan: DeterministicPlan, worlds: Worlds) -> deterministic.Settings:
    """What TD3's engine is told. `target_every` has no say: targets follow when the actor steps."""
    return deterministic.Settings(
        observations=spaces.encoded_size(worlds.observation_space),
        actions=actions_of(worlds),
        hidden=plan.hidden,
        activation=plan.activation,
        critics=plan.critics,
        tau=plan.tau,
        policy_delay=plan.policy_delay,
        target_noise=plan.target_noise,
        target_noise_clip=plan.target_noise_clip,
        gradient_clip=plan.gradient_clip,
    )


def record_of(worlds: Worlds) -> np.dtype[np.void]:
    """The layout of a transition."""
    discrete = is_discrete(worlds)
    observed = worlds.observation_space
    masked = discrete and isinstance(observed, gymnasium.spaces.Dict) and spaces.MASK in observed.spaces
    return ring.layout(
        observations=spaces.encoded_size(observed),
        actions=1 if discrete else actions_of(worlds),
        discrete=discrete,
        masks=actions_of(worlds) if masked else 0,
    )
