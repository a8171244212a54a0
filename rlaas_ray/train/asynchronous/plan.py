"""The plan of IMPALA, APPO and A3C: PPO's, with what a lag needs; and the defaults that are measured to learn.

Called by the families. Pure; never makes an env.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import gymnasium

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.specs.algorithms import A3cOptions, AppoOptions, ImpalaOptions
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import presets
from rlaas_ray.train.asynchronous.gradients import Objective
from rlaas_ray.train.asynchronous.vtrace import Correction
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.worlds import Worlds

# CartPole-v1 to 475 (docs/algorithms.md has the seeds). Scaled rewards keep values near 1, where a critic with Adam is quick;
# several epochs over one fragment are what V-trace, or the clip, corrects for.
_SHARED: Mapping[str, Any] = {
    "epochs": 4,
    "minibatch_size": 128,
    "batch_size": 512,
    "gae_lambda": 0.9,
    "scale_rewards": True,
}
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "impala": {**_SHARED, "learning_rate": 1e-3, "entropy_coefficient": 0.01},
    "appo": {**_SHARED, "learning_rate": 1.5e-3, "entropy_coefficient": 0.005},
    "a3c": {
        "learning_rate": 5e-3,
        "envs": 16,
        "gae_lambda": 1.0,
        "entropy_coefficient": 0.01,
        "scale_rewards": True,
    },
}
_DISCRETE_GAMMA = (
    0.98  # the seeds above were run with it; late data under 0.99 reached 234 instead of 400 in as many steps
)
_STALENESS_PER_ACTOR = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class AsynchronousPlan(PpoPlan):
    """A training by IMPALA, APPO or A3C with nothing left open."""

    rho_clip: float
    c_clip: float
    requests_in_flight: int  # of each env runner
    target_every: int  # fragments between copies to APPO's target network
    max_staleness: int | None  # updates; what is older is dropped
    rms_decay: float
    rms_epsilon: float


def resolve(spec: TrainSpec, worlds: Worlds) -> AsynchronousPlan:
    """The plan: the spec's own fields, else the env's preset, else the defaults. Raises for what there is not."""
    _refuse(spec)
    shared = worlds.view()
    kind = {} if isinstance(worlds.action_space, gymnasium.spaces.Box) else {"gamma": _DISCRETE_GAMMA}
    plan = presets.resolve(
        spec,
        action_space=worlds.action_space,
        preset={**kind, **_DEFAULTS[spec.algorithm], **({} if shared is None else shared.preset)},
    )
    if spec.algorithm == "a3c":
        return _a3c(spec, plan=plan)
    options = (AppoOptions if spec.algorithm == "appo" else ImpalaOptions).model_validate(spec.options)
    return AsynchronousPlan(
        **asdict(plan),
        rho_clip=options.rho_clip,
        c_clip=options.c_clip,
        requests_in_flight=options.requests_in_flight,
        target_every=options.target_every if isinstance(options, AppoOptions) else 1,
        max_staleness=None,
        rms_decay=0.0,
        rms_epsilon=0.0,
    )


def _a3c(spec: TrainSpec, *, plan: PpoPlan) -> AsynchronousPlan:
    if plan.num_env_runners == 0:
        raise InvalidInput(
            "num_env_runners",
            given=0,
            expected="at least 1 for a3c",
            cure="Actor-learners without a barrier are processes of their own. In one process `impala` does the same update.",
            pointer="/num_env_runners",
        )
    options = A3cOptions.model_validate(spec.options)
    stale = options.max_staleness
    return AsynchronousPlan(
        **{**asdict(plan), "steps": options.steps_per_gradient},
        rho_clip=1.0,
        c_clip=1.0,
        requests_in_flight=1,
        target_every=1,
        max_staleness=_STALENESS_PER_ACTOR * plan.num_env_runners if stale is None else stale,
        rms_decay=options.rms_decay,
        rms_epsilon=options.rms_epsilon,
    )


def objective_of(plan: AsynchronousPlan) -> Objective:
    """The coefficients of the loss."""
    return Objective(
        correction=Correction(gamma=plan.gamma, gae_lambda=plan.gae_lambda, rho_clip=plan.rho_clip, c_clip=plan.c_clip),
        clip=plan.clip if plan.algorithm == "appo" else None,
        value_coefficient=plan.value_coefficient,
        entropy_coefficient=plan.entropy_coefficient,
        gradient_clip=plan.gradient_clip,
    )


def _refuse(spec: TrainSpec) -> None:
    if spec.num_learners:
        raise NotBuilt(
            f"{spec.algorithm} with num_learners: {spec.num_learners}",
            cure="Leave num_learners out: one learner beside the driver feeds many env runners. PPO has data-parallel learners.",
        )
    if spec.network is not None and spec.network.memory != "none":
        raise NotBuilt(f"{spec.algorithm} with network.memory: {spec.network.memory}", cure="PPO has memory.")
    if spec.multi_agent is not None:
        raise NotBuilt(f"{spec.algorithm} with multi_agent: {spec.multi_agent}", cure="PPO trains several agents.")
