"""The offline algorithms as a family: bc, marwil, cql and iql share data, loop and export, and differ in their engine.

Found by families.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import gymnasium
import numpy as np

from rlaas_ray.policies import heads as serving
from rlaas_ray.policies import spaces
from rlaas_ray.specs.algorithms import CqlOptions, IqlOptions, MarwilOptions
from rlaas_ray.train import heads
from rlaas_ray.train.offline import cql, cql_box, imitation, iql, plans
from rlaas_ray.train.offline.learner import Engine
from rlaas_ray.train.offline.plans import OfflinePlan
from rlaas_ray.train.offline.policy import Widths
from rlaas_ray.train.offline.trainer import Offline
from rlaas_ray.train.seam import Build, Family, Trainer

Space = gymnasium.Space[object]


def _trainer(given: Build[OfflinePlan]) -> Trainer:
    worlds = given.worlds
    widths = Widths(
        observations=spaces.encoded_size(worlds.flat_observation_space),
        hidden=given.plan.hidden,
        activation=given.plan.activation,
    )
    make = _ENGINES[given.plan.algorithm]
    return Offline(
        given,
        make=partial(make, space=worlds.flat_action_space, widths=widths),
        bootstraps=given.plan.algorithm != "bc",
    )


def _imitation(plan: OfflinePlan, rng: np.random.Generator, *, space: Space, widths: Widths) -> Engine:
    return imitation.Imitation(
        widths,
        head=heads.head_of(space),
        served=serving.for_action_space(space),
        beta=plan.options.beta if isinstance(plan.options, MarwilOptions) else 0.0,
        gradient_clip=plan.gradient_clip,
        rng=rng,
    )


def _cql(plan: OfflinePlan, rng: np.random.Generator, *, space: Space, widths: Widths) -> Engine:
    assert isinstance(plan.options, CqlOptions)
    given = plan.options.conservative_weight
    if isinstance(space, gymnasium.spaces.Discrete):
        return cql.DiscreteCql(
            widths,
            actions=int(space.n),
            gamma=plan.gamma,
            conservative_weight=cql.CONSERVATIVE_WEIGHT if given is None else given,
            tau=plan.options.tau,
            gradient_clip=plan.gradient_clip,
            rng=rng,
        )
    settings = cql_box.Settings(
        entries=spaces.action_size(space),
        gamma=plan.gamma,
        conservative_weight=cql_box.CONSERVATIVE_WEIGHT if given is None else given,
        sampled_actions=plan.options.sampled_actions,
        tau=plan.options.tau,
        gradient_clip=plan.gradient_clip,
    )
    return cql_box.BoxCql(widths, settings=settings, rng=rng)


def _iql(plan: OfflinePlan, rng: np.random.Generator, *, space: Space, widths: Widths) -> Engine:
    assert isinstance(plan.options, IqlOptions)
    settings = iql.Settings(
        gamma=plan.gamma,
        expectile=plan.options.expectile,
        temperature=plan.options.temperature,
        tau=plan.options.tau,
        gradient_clip=plan.gradient_clip,
    )
    head, served = heads.head_of(space), serving.for_action_space(space)
    return iql.Iql(widths, head=head, served=served, settings=settings, rng=rng)


_ENGINES: dict[str, Callable[..., Engine]] = {"bc": _imitation, "marwil": _imitation, "cql": _cql, "iql": _iql}
FAMILY: Family[OfflinePlan] = Family(resolve=plans.resolve, trainer=_trainer)
