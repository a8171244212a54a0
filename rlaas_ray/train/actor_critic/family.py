"""SAC, TD3 and DDPG as a family: how a spec is resolved, who collects, who learns.

Found by families.py.
"""

from __future__ import annotations

from rlaas_ray.policies import spaces
from rlaas_ray.train import hosts
from rlaas_ray.train.actor_critic.explorers import Choosing, Noisy, Squashed
from rlaas_ray.train.actor_critic.learning import ActorCriticLearning
from rlaas_ray.train.actor_critic.perceptron import Shape
from rlaas_ray.train.actor_critic.plan import DeterministicPlan, SacPlan, actions_of, is_discrete, record_of, resolve
from rlaas_ray.train.replay.collector import Explorer, ReplayCollector
from rlaas_ray.train.seam import Collector, Family, Parts
from rlaas_ray.train.worlds import Worlds


def collector(plan: SacPlan | DeterministicPlan, worlds: Worlds, *, index: int) -> Collector:
    """The collector of runner `index`."""
    return ReplayCollector(plan, worlds, explorer=explorer(plan, worlds), record=record_of(worlds), index=index)


def explorer(plan: SacPlan | DeterministicPlan, worlds: Worlds) -> Explorer:
    """How this plan acts in these worlds."""
    entries = actions_of(worlds)
    soft = isinstance(plan, SacPlan) and not is_discrete(worlds)
    shape = Shape(
        inputs=spaces.encoded_size(worlds.observation_space),
        hidden=plan.hidden,
        outputs=2 * entries if soft else entries,
        activation=plan.activation,
    )
    if isinstance(plan, DeterministicPlan):
        return Noisy(shape, entries=entries, deviation=plan.exploration_noise)
    return Squashed(shape, entries=entries) if soft else Choosing(shape)


PARTS: Parts[SacPlan | DeterministicPlan] = Parts(collector=collector, learning=ActorCriticLearning)
FAMILY: Family[SacPlan | DeterministicPlan] = Family(resolve=resolve, trainer=hosts.columnar(PARTS))
