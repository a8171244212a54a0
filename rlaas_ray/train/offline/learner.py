"""What offline learners have in common: an update on rows of a dataset, a checkpoint, and the policy that came of it.

Implemented by imitation.py, iql.py, cql.py and cql_box.py; driven by trainer.py, which draws the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from rlaas_ray.policies import heads
from rlaas_ray.specs.arrays import F32, Array
from rlaas_ray.train.actor_critic.perceptron import Perceptron
from rlaas_ray.train.offline.dataset import Dataset


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Learnt:
    """The policy's net, how its outputs are to be read, and how it must act where only one way makes sense."""

    net: Perceptron
    head: heads.Head
    parts: int = 1  # 2: mean | log_std
    log_std: F32 | None = None  # where it is not the net's
    serving: str | None = None


class Engine(Protocol):
    """Parameters and their update. Observations come normalised, rewards scaled."""

    def update(self, batch: Dataset, *, rng: np.random.Generator, learning_rate: float) -> None:
        """One step of everything on these rows."""
        ...

    def stats(self) -> dict[str, float]:
        """Of the last update, by the names in docs/training.md; values in scaled rewards."""
        ...

    def state(self) -> dict[str, Array]:
        """A copy of everything."""
        ...

    def load_state(self, state: Mapping[str, Array]) -> None:
        """The inverse, in place. Raises InvalidInput where shapes differ."""
        ...

    def learnt(self) -> Learnt:
        """The policy as it stands; its arrays are views."""
        ...
