"""The plan of `lastream`: the agent's own settings beside the budget and the envs.

Made by `resolve`, for family.py and trainer.py. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.specs.algorithms import LastreamOptions
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import plans
from rlaas_ray.train.plans import Plan

ENVS, BATCH, EPISODES = 8, 64, 200
LEARNING_RATE, GAMMA = 1e-3, 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class LastreamPlan(Plan):
    """Temperatures are in standardised reward, over the budget."""

    learning_rate: float
    batch_size: int
    candidates: int
    horizon: Literal["bandit", "td"]
    keep: int
    updates: int
    learning_starts: int
    buffer_size: int
    target_every: int
    temperature_initial: float
    temperature_final: float
    dropout: float
    gcn_dropout: float


def resolve(spec: TrainSpec) -> LastreamPlan:
    """The plan: the spec's own fields, else defaults. Raises for what the agent does not take."""
    options = LastreamOptions.model_validate(spec.options)
    if spec.num_env_runners or spec.num_learners:
        raise NotBuilt(
            "lastream in several processes",
            given=f"{spec.num_env_runners or 0} env runners, {spec.num_learners} learners",
            expected="none of either: the agent acts and learns in the process of its run",
            cure="Leave num_env_runners and num_learners out; num_envs_per_runner makes its batches larger.",
        )
    refused = {
        "network": spec.network,
        "normalise_observations": spec.normalise_observations,
        "serving": spec.serving,
    }
    for name, value in refused.items():
        if value:
            raise InvalidInput(f"{name} of lastream", given=value, expected="nothing", cure="Leave it out.")
    budgets = plans.budgets(spec, preset={"total_episodes": EPISODES}, default_steps=1)
    return LastreamPlan(
        env=spec.env,
        algorithm=spec.algorithm,
        seed=spec.seed,
        envs=spec.num_envs_per_runner or ENVS,
        steps=options.keep,
        gamma=GAMMA if spec.gamma is None else spec.gamma,
        normalise_observations=False,
        num_env_runners=0,
        num_learners=0,
        gpus_per_learner=0.0,
        serving=None,
        stop_at_return=spec.stop_at_return,
        learning_rate=spec.learning_rate or LEARNING_RATE,
        batch_size=spec.batch_size or BATCH,
        **options.model_dump(),
        **budgets,
    )
