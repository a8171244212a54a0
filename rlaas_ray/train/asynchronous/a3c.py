"""A3C as a family: actor-learners send gradients, which are applied as they come. Found by families.py."""

from __future__ import annotations

from rlaas_ray.train.asynchronous import flow, plan
from rlaas_ray.train.asynchronous.collector import ActorLearner
from rlaas_ray.train.asynchronous.learning import CentralStore
from rlaas_ray.train.asynchronous.plan import AsynchronousPlan
from rlaas_ray.train.seam import Build, Family, Parts, Trainer

PARTS: Parts[AsynchronousPlan] = Parts(collector=ActorLearner, learning=CentralStore)


def _trainer(given: Build[AsynchronousPlan]) -> Trainer:
    return flow.build(PARTS, given)


FAMILY: Family[AsynchronousPlan] = Family(resolve=plan.resolve, trainer=_trainer)
