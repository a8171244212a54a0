"""DQN's plan: a spec with nothing left open, the network's shape, and the layout of its transitions.

Made by family.py, read by explorer.py and learning.py. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import spaces
from rlaas_ray.specs.algorithms import DqnOptions
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.dqn.network import Shape
from rlaas_ray.train.replay import plan as replay
from rlaas_ray.train.replay import ring
from rlaas_ray.train.replay.plan import ReplayPlan
from rlaas_ray.train.worlds import Worlds

# Acrobot-v1 is solved by these in 5 of 5 seeds, CartPole-v1 in 8 of 10 (docs/algorithms.md).
DEFAULTS: Mapping[str, Any] = {
    "envs": 8,
    "steps": 4,
    "gamma": 0.99,
    "normalise_observations": False,
    "batch_size": 128,
    "learning_rate": 2.3e-3,
    "learning_rate_left": 0.1,
    "gradient_clip": 10.0,
    "hidden": (64, 64),
    "activation": "relu",
    "learning_starts": 1_000,
    "updates_per_step": 0.5,
    "tau": 1.0,
    "target_every": 100,
    "total_timesteps": 100_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DqnPlan(ReplayPlan):
    """A training by DQN with nothing left open."""

    double: bool
    dueling: bool
    atoms: int
    v_min: float
    v_max: float
    epsilon_initial: float
    epsilon_final: float
    epsilon_fraction: float
    serving_epsilon: float


def resolve(spec: TrainSpec, worlds: Worlds) -> DqnPlan:
    """The plan: the spec's own fields and options, else defaults. Raises InvalidInput for actions that are not Discrete."""
    if not isinstance(worlds.action_space, gymnasium.spaces.Discrete):
        raise InvalidInput(
            f"dqn for {spec.env}", given=worlds.action_space, expected="Discrete actions", cure="Use ppo, sac or td3."
        )
    options = DqnOptions.model_validate(spec.options)
    if options.atoms > 1 and options.v_min >= options.v_max:
        raise InvalidInput("atoms of dqn", given=[options.v_min, options.v_max], expected="v_min below v_max")
    plan = DqnPlan(
        **replay.fields_of(spec, options, defaults=DEFAULTS),
        double=options.double,
        dueling=options.dueling,
        atoms=options.atoms,
        v_min=options.v_min,
        v_max=options.v_max,
        epsilon_initial=options.epsilon_initial,
        epsilon_final=options.epsilon_final,
        epsilon_fraction=options.epsilon_fraction,
        serving_epsilon=options.serving_epsilon,
    )
    if plan.dueling and not plan.hidden:
        raise InvalidInput("a dueling network", given="no hidden layer", expected="one at least: a stream's own")
    return plan


def shape_of(plan: DqnPlan, worlds: Worlds) -> Shape:
    """The Q network's shape."""
    return Shape(
        inputs=spaces.encoded_size(worlds.observation_space),
        hidden=plan.hidden,
        activation=plan.activation,
        actions=_count(worlds),
        atoms=plan.atoms,
        dueling=plan.dueling,
    )


def record_of(worlds: Worlds) -> np.dtype[np.void]:
    """The layout of a transition."""
    space = worlds.observation_space
    masked = isinstance(space, gymnasium.spaces.Dict) and spaces.MASK in space.spaces
    return ring.layout(
        observations=spaces.encoded_size(worlds.observation_space),
        actions=1,
        discrete=True,
        masks=_count(worlds) if masked else 0,
    )


def _count(worlds: Worlds) -> int:
    assert isinstance(worlds.action_space, gymnasium.spaces.Discrete)  # `resolve` refused others
    return int(worlds.action_space.n)
