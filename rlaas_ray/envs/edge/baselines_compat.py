"""Baselines of EdgePlacement-v3compat: random targets and constant ones.

Found like those of EdgePlacement. The observation shows replicas and a mean latency, no demand, so that no rule can count pods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import builtin, heads
from rlaas_ray.specs.arrays import F32, F64

_DEPLOYMENTS, _MOST = 2, 10  # of the environment without options


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The same target for every deployment."""

    replicas: int
    head: heads.Head

    def distribution(self, observations: F32) -> F32:
        """Targets (n, deployments)."""
        return np.full((len(observations), self.head.action_size), self.replicas, dtype=np.float32)


def random() -> builtin.Builtin:
    """Every target as probable as any other."""
    return builtin.Uniform(head=heads.MultiCategorical(nvec=(_MOST + 1,) * _DEPLOYMENTS))


def constant(replicas: int = 5) -> builtin.Builtin:
    """Always the same number of replicas."""
    if not 0 <= replicas <= _MOST:
        raise InvalidInput("replicas", given=replicas, expected=f"0 to {_MOST}", cure="Stay within the action space.")
    return Constant(replicas=int(replicas), head=heads.Point(entries=_DEPLOYMENTS))


def most() -> builtin.Builtin:
    """Always the most replicas: a pod costs a tenth of a millisecond, so that latency decides."""
    return constant(_MOST)


POLICIES: Mapping[str, Callable[..., builtin.Builtin]] = {"random": random, "constant": constant, "most": most}
REFERENCES: Mapping[str, Callable[..., tuple[F64, F64]]] = {}
REFERENCE = "most"


def card(mode: str) -> Mapping[str, builtin.Builtin]:  # noqa: ARG001 - the protocol of every baselines' module
    """The policies of the card."""
    return {
        "random": random(),
        "constant 3": constant(3),
        "constant 5": constant(5),
        "constant 8": constant(8),
        "most": most(),
    }
