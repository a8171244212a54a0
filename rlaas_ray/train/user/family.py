"""A user's algorithm as a family: which of the three ways it is trained in, by what it has.

Found by families.py for `module:Class` and for plugins.
"""

from __future__ import annotations

from typing import Any

from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.seam import Build, Family, Trainer
from rlaas_ray.train.user import calls, finding
from rlaas_ray.train.user import plans as user_plans
from rlaas_ray.train.user.counting import spaces_of
from rlaas_ray.train.user.driven import OwnLoopTrainer, PlainTrainer
from rlaas_ray.train.user.looped import Looped
from rlaas_ray.train.user.plain import METHODS as PLAIN_METHODS
from rlaas_ray.train.user.plain import is_plain
from rlaas_ray.train.user.plans import UserPlan
from rlaas_ray.train.user.protocol import METHODS
from rlaas_ray.train.worlds import Worlds


def family_of(name: str) -> Family[UserPlan]:
    """The family of `module:Class` or of a plugin's name. Raises NotFound, and InvalidInput for a class that is neither kind."""
    target = finding.target_of(name)
    kind = finding.load(target)
    kept(kind, target=target)

    def resolve(spec: TrainSpec, _worlds: Worlds) -> UserPlan:
        return user_plans.resolve(spec, target=target)

    def trainer(given: Build[UserPlan]) -> Trainer:
        if is_plain(kind):
            return PlainTrainer(kind, given)
        algorithm = made(kind, given.worlds, plan=given.plan)
        return OwnLoopTrainer(algorithm, given) if hasattr(kind, "train") else Looped(algorithm, given)

    return Family(resolve=resolve, trainer=trainer)


def made(kind: type[Any], worlds: Worlds, *, plan: UserPlan) -> Any:
    """An algorithm of the protocol for these worlds."""
    observed, acted = spaces_of(worlds)
    with calls.theirs(plan.target, "the constructor"):
        return kind(observation_space=observed, action_space=acted, config=dict(plan.config), seed=plan.seed)


def kind_of(kind: type[Any]) -> str:
    """Which of the three ways a class is trained in, in words."""
    if is_plain(kind):
        return "a plain agent: train(episodes) is called again and again"
    return "its own loop: train(env, budget)" if hasattr(kind, "train") else "steps are sampled, then update(columns)"


def kept(kind: type[Any], *, target: str) -> None:
    """Raises InvalidInput for a class that has neither the methods of the protocol nor those of a plain agent."""
    if is_plain(kind):
        return
    missing = [name for name in METHODS if not callable(getattr(kind, name, None))]
    if missing == ["update"] and hasattr(kind, "train"):
        return
    if missing:
        plain = [name for name in PLAIN_METHODS if callable(getattr(kind, name, None))]
        raise InvalidInput(
            f"algorithm {target}",
            given=f"a class without {', '.join(missing)}",
            expected=f"{', '.join(METHODS)}; or, for a plain agent, {', '.join(PLAIN_METHODS)}",
            cure=nearest(missing[0], [name for name in vars(kind) if not name.startswith("_")])
            if len(plain) < len(PLAIN_METHODS) - 1
            else f"Add {', '.join(name for name in PLAIN_METHODS if name not in plain)}.",
        )
