"""Baselines of EdgePlacement-tiny: the same rules, and the exact optimum, which the observation and the step's number name.

Found like those of EdgePlacement. `optimum` remembers how many steps have passed: the best plan depends on how many are left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.edge import config, demand, observation, rules, tiny
from rlaas_ray.envs.edge.baselines import checked
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64, I64

_TINY = config.tiny()
_HEAD = heads.Categorical(n=tiny.ACTIONS)
CALIBRATED = 0.3  # the best target of 0.3, 0.4 ... 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimum:
    """The best action of each step and state, by backward induction. What leaves with a move is remembered from the last step."""

    mode: str = "balanced"
    head: heads.Head = _HEAD
    state_size: int = 1 + 2

    def distribution(self, observations: F32) -> F32:
        """The first step of an episode."""
        params, _ = self.step(observations, np.zeros((len(observations), self.state_size), np.float32))
        return params

    def step(self, observations: F32, state: F32) -> tuple[F32, F32]:
        """State: steps passed, and which node a move leaves (none, 0, 1 as a pair of flags)."""
        _, plan = tiny.optimum(self.mode)
        step = np.minimum(state[:, 0].astype(np.int64), len(plan) - 1)
        action: I64 = plan[step, _index(observations, leaving=state[:, 1:])]
        wish = np.full((len(action), tiny.ACTIONS), -np.inf)
        wish[:, 0] = 0.0
        wish[np.arange(len(action)), action] = 1.0
        after = np.stack((state[:, 0] + 1.0, action == 5, action == 6), axis=1).astype(np.float32)
        return rules.logits(wish), after


def random() -> builtin.Builtin:
    """Each allowed action as probable as any other."""
    return builtin.Uniform(head=heads.Categorical(n=tiny.ACTIONS))


def hold() -> builtin.Builtin:
    """One pod on each node for ever."""
    return rules.Hold(instance=_TINY)


def kube_hpa(target: float = 0.5) -> builtin.Builtin:
    """The autoscaler and the scheduler's scores."""
    return rules.Autoscaler(instance=_TINY, target=checked(target))


def greedy_latency(target: float = 0.6, gain: float = 8.0) -> builtin.Builtin:
    """The autoscaler's count, placed where the users are."""
    return rules.Autoscaler(instance=_TINY, target=checked(target), gain=gain, nearest=True)


def optimum(mode: str = "balanced") -> builtin.Builtin:
    """The exact answer."""
    return Optimum(mode=mode)


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {
    "random": random,
    "hold": hold,
    "kube_hpa": kube_hpa,
    "greedy_latency": greedy_latency,
    "optimum": optimum,
}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {}
REFERENCE = "optimum"


def card(mode: str) -> Mapping[str, builtin.Builtin]:
    """The policies of the card of one mode."""
    return {
        "random": random(),
        "hold": hold(),
        "kube_hpa 0.3": kube_hpa(CALIBRATED),
        "kube_hpa 0.5": kube_hpa(0.5),
        "kube_hpa 0.8": kube_hpa(0.8),
        "greedy_latency 0.6": greedy_latency(),
        "optimum": optimum(mode),
    }


def _index(observations: F32, *, leaving: F32) -> I64:
    seen = observation.read(observations, instance=_TINY)
    total = seen.rate.sum(axis=(1, 2))
    # A move that was wished but not allowed has started nothing.
    left = leaving * (seen.starting.sum(axis=(1, 2)) > 0.0)[:, None]
    level = np.abs(total[:, None] - np.asarray(demand.LEVELS)).argmin(axis=1)
    state = {
        "run": seen.run,
        "starting": seen.starting,
        "leaving": left[:, None],
        "level": level,
        "crowd": seen.rate[:, 0].argmax(axis=1),
    }
    return tiny.index(state)
