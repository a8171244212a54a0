"""`fast: off`: PPO, DQN and SAC by RLlib's own env runners, connectors and learners, under the same spec.

Found by families.py. It is the oracle that "the same learning over seeds" is measured against, and a way round the columnar path.
A plan here is the columnar family's own, so every field means the same; what RLlib's own path cannot do is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import gymnasium

from rlaas_ray.errors import NotBuilt
from rlaas_ray.policies import spaces
from rlaas_ray.specs.algorithms import ALGORITHMS
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train import ppo
from rlaas_ray.train.actor_critic import plan as actor_critic
from rlaas_ray.train.actor_critic.plan import SacPlan
from rlaas_ray.train.dqn import plan as dqn
from rlaas_ray.train.dqn.plan import DqnPlan
from rlaas_ray.train.plans import Plan
from rlaas_ray.train.presets import PpoPlan
from rlaas_ray.train.seam import Build, Family, Trainer
from rlaas_ray.train.worlds import Worlds

BUILT = tuple(name for name, one in sorted(ALGORITHMS.items()) if one.stock)


@dataclass(frozen=True, slots=True, kw_only=True)
class StockPlan(Plan):
    """A training by RLlib's own path; `settings` is the columnar family's plan."""

    settings: PpoPlan | DqnPlan | SacPlan

    @property
    def actors(self) -> int:
        """One at least: RLlib's own path needs a Ray to be connected, even where it starts no actor."""
        return max(1, self.num_env_runners + self.num_learners)


def resolve(spec: TrainSpec, worlds: Worlds) -> StockPlan:
    """The plan. Raises NotBuilt for what RLlib's own path cannot do with it."""
    for what, cure in _missing(spec, worlds):
        raise NotBuilt(f"fast: off with {what}", cure=cure)
    settings = _settings(spec, worlds)
    if settings.total_timesteps is None and _scheduled(settings):
        raise NotBuilt(
            "fast: off with a budget of episodes or seconds",
            expected="total_timesteps: RLlib's schedules count env steps",
            cure="Give total_timesteps, or `fast: auto`.",
        )
    if not isinstance(settings, PpoPlan) and settings.normalise_observations:
        raise NotBuilt(
            f"fast: off with {spec.algorithm} and normalise_observations",
            cure="Set normalise_observations: false, or `fast: auto`.",
        )
    return StockPlan(**{field.name: getattr(settings, field.name) for field in fields(Plan)}, settings=settings)


def _missing(spec: TrainSpec, worlds: Worlds) -> list[tuple[str, str]]:
    """What cannot be done, and its cure."""
    observed = worlds.observation_space
    masked = isinstance(observed, gymnasium.spaces.Dict) and spaces.MASK in observed.spaces
    auto = "Use `fast: auto`."
    return [
        (what, cure)
        for found, what, cure in (
            (spec.algorithm not in BUILT, f"algorithm {spec.algorithm}", f"{auto} Built are {list(BUILT)}."),
            (spec.multi_agent is not None, "multi_agent", auto),
            (spec.network is not None and spec.network.memory != "none", "network.memory", auto),
            (worlds.shared, f"the shared view of {spec.env}", "Set `view: flat`, or use `fast: auto`."),
            (masked, "an action mask", auto),
        )
        if found
    ]


def _settings(spec: TrainSpec, worlds: Worlds) -> PpoPlan | DqnPlan | SacPlan:
    if spec.algorithm == "dqn":
        return dqn.resolve(spec, worlds)
    if spec.algorithm == "sac":
        plan = actor_critic.resolve(spec, worlds)
        assert isinstance(plan, SacPlan)
        return plan
    return replace(ppo.resolve(spec, worlds), scale_rewards=False)  # RLlib has no such connector


def _scheduled(settings: PpoPlan | DqnPlan | SacPlan) -> bool:
    changing = settings.learning_rate != settings.learning_rate_final
    return changing or (isinstance(settings, DqnPlan) and settings.epsilon_initial != settings.epsilon_final)


def _trainer(given: Build[StockPlan]) -> Trainer:
    return given.on_ray().stock(given)


FAMILY: Family[StockPlan] = Family(resolve=resolve, trainer=_trainer)
