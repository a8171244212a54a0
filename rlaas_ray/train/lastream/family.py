"""`lastream` as a family: found by families.py, trained by trainer.py in the process of its run."""

from __future__ import annotations

from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.train.lastream import flows, plan
from rlaas_ray.train.lastream.plan import LastreamPlan
from rlaas_ray.train.lastream.trainer import LastreamTrainer
from rlaas_ray.train.seam import Family
from rlaas_ray.train.worlds import Worlds


def resolve(spec: TrainSpec, worlds: Worlds) -> LastreamPlan:
    """The plan of a spec on a dataflow. Raises for another env."""
    flows.of(worlds)
    return plan.resolve(spec)


FAMILY: Family[LastreamPlan] = Family(resolve=resolve, trainer=LastreamTrainer)
