"""DQN as a family: how a spec is resolved, who collects, who learns.

Found by families.py.
"""

from __future__ import annotations

from rlaas_ray.train import hosts
from rlaas_ray.train.dqn.explorer import EpsilonGreedy
from rlaas_ray.train.dqn.learning import DqnLearning
from rlaas_ray.train.dqn.plan import DqnPlan, record_of, resolve, shape_of
from rlaas_ray.train.replay.collector import ReplayCollector
from rlaas_ray.train.seam import Collector, Family, Parts
from rlaas_ray.train.worlds import Worlds


def collector(plan: DqnPlan, worlds: Worlds, *, index: int) -> Collector:
    """The collector of runner `index`."""
    acting = EpsilonGreedy(plan, shape_of(plan, worlds))
    return ReplayCollector(plan, worlds, explorer=acting, record=record_of(worlds), index=index)


PARTS: Parts[DqnPlan] = Parts(collector=collector, learning=DqnLearning)
FAMILY: Family[DqnPlan] = Family(resolve=resolve, trainer=hosts.columnar(PARTS))
