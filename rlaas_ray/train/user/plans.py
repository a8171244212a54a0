"""The plan of a user's algorithm: whose it is, what it is told, how large a fragment or chunk is.

Made by `resolve`, for family.py. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rlaas_ray.errors import NotBuilt
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import plans
from rlaas_ray.train.plans import Plan

ENVS, BATCH, TIMESTEPS = 16, 1024, 100_000
CHUNKS, LONGEST_CHUNK, CHUNK = (
    100,
    50,
    5,
)  # calls of a plain agent's train in a budget of episodes; episodes of one call
# Fields of a spec that an algorithm may want to know; those that are named are part of its config.
TOLD = (
    "learning_rate",
    "learning_rate_final",
    "gamma",
    "gae_lambda",
    "clip",
    "entropy_coefficient",
    "value_coefficient",
    "gradient_clip",
    "minibatch_size",
    "epochs",
    "normalise_observations",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserPlan(Plan):
    """`config` is what the algorithm is told, `chunk` the episodes of one call of a plain agent's train."""

    target: str
    config: dict[str, Any]
    chunk: int


def resolve(spec: TrainSpec, *, target: str) -> UserPlan:
    """The plan of a spec whose algorithm is `module:Class`. Raises NotBuilt where it asks for actors."""
    if spec.num_env_runners or spec.num_learners:
        raise NotBuilt(
            f"{target} in several processes",
            given=f"{spec.num_env_runners or 0} env runners, {spec.num_learners} learners",
            expected="none of either: a user's algorithm acts and learns in the process of its run",
            cure="Leave num_env_runners and num_learners out; num_envs_per_runner makes its batches larger.",
        )
    envs = spec.num_envs_per_runner or ENVS
    budgets = plans.budgets(spec, preset={}, default_steps=TIMESTEPS)
    episodes = budgets["total_episodes"]
    named = {name: getattr(spec, name) for name in TOLD if getattr(spec, name) is not None}
    network = {} if spec.network is None else {"network": spec.network.to_json()}
    return UserPlan(
        env=spec.env,
        algorithm=spec.algorithm,
        seed=spec.seed,
        envs=envs,
        steps=max(1, round((spec.batch_size or BATCH) / envs)),
        gamma=0.99 if spec.gamma is None else spec.gamma,
        normalise_observations=False,
        num_env_runners=0,
        num_learners=0,
        gpus_per_learner=0.0,
        serving=spec.serving,
        stop_at_return=spec.stop_at_return,
        target=target,
        config={**named, **network, **spec.options},
        chunk=CHUNK if episodes is None else min(LONGEST_CHUNK, max(1, episodes // CHUNKS)),
        **budgets,
    )
