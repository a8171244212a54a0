"""IMPALA and APPO as a family. Found by families.py; with env runners they sample without a barrier, in one process in turns."""

from __future__ import annotations

from rlaas_ray.train import hosts
from rlaas_ray.train.asynchronous import collector, flow, plan
from rlaas_ray.train.asynchronous.learning import VtraceLearning
from rlaas_ray.train.asynchronous.plan import AsynchronousPlan
from rlaas_ray.train.seam import Build, Family, Parts, Trainer

PARTS: Parts[AsynchronousPlan] = Parts(collector=collector.trajectories, learning=VtraceLearning)


def _trainer(given: Build[AsynchronousPlan]) -> Trainer:
    # In one process nothing can lag: staleness is 0, and V-trace corrects only for the epochs over one fragment.
    return flow.build(PARTS, given) if given.plan.num_env_runners else hosts.InProcess(PARTS, given)


FAMILY: Family[AsynchronousPlan] = Family(resolve=plan.resolve, trainer=_trainer)
