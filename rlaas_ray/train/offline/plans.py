"""The plan of an offline training: what a TrainSpec leaves open, closed.

Called by family.py. Pure. The defaults were compared on the tasks of tests/learning/test_offline_learns.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import gymnasium

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies import spaces
from rlaas_ray.specs.algorithms import ALGORITHMS, OfflineOptions
from rlaas_ray.specs.train import Network, TrainSpec
from rlaas_ray.train import plans
from rlaas_ray.train.actor_critic.perceptron import Activation
from rlaas_ray.train.offline import sources
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.worlds import Worlds

DEFAULTS: Mapping[str, Any] = {"learning_rate": 1e-3, "gamma": 0.99, "batch_size": 256}
NETWORK = Network(hidden=(64, 64), activation="relu")
UPDATES = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OfflinePlan(Plan):
    """What every offline algorithm has beside the common part; `options` are the algorithm's own."""

    dataset: str
    options: OfflineOptions
    batch_size: int  # rows of one update
    learning_rate: float
    learning_rate_final: float
    gradient_clip: float | None
    hidden: tuple[int, ...]
    activation: Activation


def resolve(spec: TrainSpec, worlds: Worlds) -> OfflinePlan:
    """The plan. Raises InvalidInput for a spec without data, NotBuilt for what offline training does not have."""
    _refuse(spec, worlds)
    options = cast("OfflineOptions", ALGORITHMS[spec.algorithm].options.model_validate(spec.options))
    layers = spec.network or NETWORK
    batch_size = spec.batch_size or DEFAULTS["batch_size"]
    budgets = plans.budgets(spec, preset={}, default_steps=UPDATES * batch_size)
    if options.updates is not None:
        budgets = {**budgets, "total_timesteps": options.updates * batch_size}
    rate = spec.learning_rate or DEFAULTS["learning_rate"]
    normalise = spec.normalise_observations
    return OfflinePlan(
        env=spec.env,
        algorithm=spec.algorithm,
        seed=spec.seed,
        envs=1,
        steps=batch_size,
        gamma=DEFAULTS["gamma"] if spec.gamma is None else spec.gamma,
        normalise_observations=True if normalise is None else normalise,
        num_env_runners=0,
        num_learners=0,
        gpus_per_learner=0.0,
        serving=spec.serving,
        stop_at_return=None,
        dataset=str(spec.dataset),
        options=options,
        batch_size=batch_size,
        learning_rate=rate,
        learning_rate_final=rate if spec.learning_rate_final is None else spec.learning_rate_final,
        gradient_clip=spec.gradient_clip,
        hidden=layers.hidden,
        activation=layers.activation,
        **budgets,
    )


def _refuse(spec: TrainSpec, worlds: Worlds) -> None:
    if spec.dataset is None:
        raise InvalidInput(
            "dataset", expected=sources.FORMS, cure=f"{spec.algorithm} learns from logged data.", pointer="/dataset"
        )
    for name, wanted in (("total_episodes", None), ("stop_at_return", None)):
        if getattr(spec, name) != wanted:
            raise InvalidInput(
                name,
                given=getattr(spec, name),
                expected="a budget of rows (total_timesteps), of CPU seconds, or `updates`",
                cure="No episode is played before the evaluation at the end.",
                pointer=f"/{name}",
            )
    if spec.num_env_runners or spec.num_learners or spec.multi_agent:
        raise NotBuilt(
            "offline training with actors or several agents",
            given={"num_env_runners": spec.num_env_runners, "num_learners": spec.num_learners},
            cure="Leave num_env_runners, num_learners and multi_agent out.",
        )
    if spec.view == "shared":
        raise NotBuilt("offline training of a shared view", cure="Use `view: flat`: logged rows are of the whole env.")
    if spec.algorithm == "cql" and spaces.mask_size(worlds.flat_observation_space):
        raise NotBuilt("cql under an action mask", cure="Use bc, marwil or iql, which keep to the mask.")
    _refuse_actions(spec, worlds.flat_action_space)


def _refuse_actions(spec: TrainSpec, space: gymnasium.Space[Any]) -> None:
    kinds = {
        "discrete": isinstance(space, gymnasium.spaces.Discrete),
        "multi_discrete": isinstance(space, gymnasium.spaces.MultiDiscrete),
        "box": isinstance(space, gymnasium.spaces.Box),
    }
    allowed = ALGORITHMS[spec.algorithm].actions
    if not any(kinds[kind] for kind in allowed):
        raise InvalidInput(
            f"action space of {spec.algorithm}",
            given=str(space),
            expected=" or ".join(allowed),
            cure="bc and marwil take every kind of action.",
        )
