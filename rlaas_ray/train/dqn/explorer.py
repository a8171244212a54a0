"""Epsilon-greedy exploration over the Q network that a request carries; forbidden actions are never taken.

Held by replay/collector.py. Epsilon follows the budget used, over all runners.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F32, I64, Bool
from rlaas_ray.train.dqn.bellman import expected
from rlaas_ray.train.dqn.network import QNetwork, Shape, support
from rlaas_ray.train.dqn.plan import DqnPlan
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.replay.collector import Explorer


class EpsilonGreedy(Explorer):
    """The best action, but with probability epsilon any allowed one."""

    discrete = True
    entries = 1

    def __init__(self, plan: DqnPlan, shape: Shape) -> None:
        self._plan = plan
        self._shape = shape
        self._atoms = support(shape, v_min=plan.v_min, v_max=plan.v_max)

    def begin(self, request: Request) -> None:
        """Act by the request's parameters from now on."""
        self._network = QNetwork(request.parameters, self._shape)
        self._epsilon = epsilon(self._plan, used=request.used)

    def act(self, observations: F32, *, masks: Bool | None, rng: np.random.Generator) -> I64:
        """(B, d) -> (B, 1)."""
        q = expected(self._network.outputs(observations), shape=self._shape, atoms=self._atoms)
        best = (q if masks is None else np.where(masks, q, -np.inf)).argmax(axis=1)[:, None]
        exploring = rng.random((len(best), 1)) < self._epsilon
        return np.where(exploring, self.random(len(best), masks=masks, rng=rng), best)

    def random(self, rows: int, *, masks: Bool | None, rng: np.random.Generator) -> I64:
        """(rows, 1), uniform over what is allowed."""
        if masks is None:
            return rng.integers(self._shape.actions, size=(rows, 1))
        keys = rng.random(masks.shape)
        return np.asarray(np.where(masks, keys, -1.0).argmax(axis=1)[:, None], dtype=np.int64)


def epsilon(plan: DqnPlan, *, used: float) -> float:
    """Linear from the initial to the final one over `epsilon_fraction` of the budget."""
    share = min(1.0, used / plan.epsilon_fraction)
    return plan.epsilon_initial + (plan.epsilon_final - plan.epsilon_initial) * share
