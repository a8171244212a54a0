"""Baselines of the tiny recommender: random, the click-greedy rule, and the optimum by dynamic programming, which can serve.

Found like those of SlateRecommendation. The optimum needs nothing that the observation does not hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.recommendation import tiny
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64, I64

_POINT = heads.Point(entries=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A slate for each budget and point of the grid."""

    slate: I64  # (41, 625)
    head: heads.Head = _POINT

    def distribution(self, observations: F32) -> F32:
        """Indices (n, 1)."""
        level = np.rint((observations[:, : tiny.TOPICS] + 1.0) * 2.0).astype(np.int64)
        budget = np.rint(observations[:, tiny.TOPICS] * tiny.BUDGET).astype(np.int64)
        found = self.slate[np.clip(budget, 0, tiny.BUDGET), tiny.number(np.clip(level, 0, tiny.LEVELS - 1))]
        return found[:, None].astype(np.float32)


def random() -> builtin.Builtin:
    """Each of the six slates as probable."""
    return builtin.Uniform(head=heads.Categorical(n=len(tiny.SLATES)))


def myopic() -> builtin.Builtin:
    """What is most likely to be clicked now; of equals the first slate, which is the costliest."""
    return Table(slate=np.tile(tiny.myopic(), (tiny.BUDGET + 1, 1)))


def optimum() -> builtin.Builtin:
    """The exact answer, by one backward pass."""
    return Table(slate=np.asarray(tiny.action_values().argmax(axis=2), dtype=np.int64))


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {"random": random, "myopic": myopic, "optimum": optimum}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {}
REFERENCE = "optimum"


def card(mode: str) -> Mapping[str, builtin.Builtin]:  # noqa: ARG001 - there is but one
    """The policies of the card."""
    return {name: factory() for name, factory in POLICIES.items()}
