"""The replay memory of an off-policy algorithm: a ring, and priorities where they are asked for.

Held by the algorithms' Learning. Prioritised replay after Schaul et al. 2016: p = (|error| + 1e-6)^alpha, new rows with the
greatest p so far, weights (N P)^-beta over the greatest of the batch. Draws only from generators that it is handed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.specs.arrays import F32, F64, I64
from rlaas_ray.train.replay import ring as rings
from rlaas_ray.train.replay.ring import Rows
from rlaas_ray.train.replay.sum_tree import SumTree

PRIORITY_FLOOR = 1e-6
TREE_BYTES = 16  # of a leaf and its share of the nodes above it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """Rows to learn from. `weights` is None under uniform sampling, where all are 1."""

    rows: Rows  # (n,)
    places: I64  # (n,), for `Memory.prioritise`
    weights: F32 | None  # (n,)


class Memory:
    """The newest `capacity` transitions. `alpha` None: uniform."""

    def __init__(self, record: np.dtype[np.void], *, capacity: int, max_bytes: int, alpha: float | None = None) -> None:
        per_row = 0 if alpha is None else TREE_BYTES
        self.bytes = rings.check_bytes(record, capacity=capacity, per_row=per_row, limit=max_bytes)
        self.ring = rings.ring(record, capacity=capacity)
        self.tree = None if alpha is None else SumTree(capacity)
        self._alpha = alpha or 0.0
        self.greatest = 1.0  # p so far; that of new rows

    def __len__(self) -> int:
        return self.ring.size

    def insert(self, rows: Rows) -> None:
        """(n,) rows of the memory's layout."""
        places = self.ring.insert(rows)
        if self.tree is not None and len(places):
            self.tree.set(places, np.full(len(places), self.greatest))

    def sample(self, count: int, *, rng: np.random.Generator, beta: float = 1.0) -> Sample:
        """`count` rows with replacement; prioritised: one from each of `count` equal parts of the sum. Not of an empty memory."""
        if self.tree is None:
            places = rng.integers(self.ring.size, size=count)
            return Sample(rows=self.ring.take(places), places=places, weights=None)
        total = self.tree.total
        places, priorities = self.tree.find((np.arange(count) + rng.random(count)) * (total / count))
        weights = (priorities * (self.ring.size / total)) ** -beta
        weights /= weights.max()
        return Sample(rows=self.ring.take(places), places=places, weights=weights.astype(np.float32))

    def prioritise(self, places: I64, errors: F32 | F64) -> None:
        """The size of the error (n,) that rows at `places` have now. Nothing under uniform sampling."""
        if self.tree is None:
            return
        priorities = (np.abs(errors.astype(np.float64)) + PRIORITY_FLOOR) ** self._alpha
        self.greatest = max(self.greatest, float(priorities.max()))
        self.tree.set(places, priorities)
