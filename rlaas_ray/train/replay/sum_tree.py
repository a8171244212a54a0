"""A sum tree over priorities in flat arrays: batched updates and batched descent, for prioritised replay.

Held by memory.py. A node sums 32 children and the top is a flat array of up to 4096 sums that one binary search enters, so that
two or three array operations replace the seventeen levels of a binary tree. Sums are recomputed from children, never
incremented: no drift. Never draws a random number.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64, I64

FAN_OUT = 32
TOP = 4_096  # sums: one cumulative sum over them costs less than one more level


class SumTree:
    """Priorities >= 0 of `capacity` leaves; at first all zero."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._levels: list[F64] = []  # from the leaves up, each (nodes, 32); their sums are the next level's entries
        width = capacity
        while not self._levels or width > TOP:
            width = -(-width // FAN_OUT)
            self._levels.append(np.zeros((width, FAN_OUT)))
        self._top = np.zeros(width)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._top.sum())

    @property
    def leaves(self) -> F64:
        """(capacity,), a view."""
        return self._levels[0].reshape(-1)[: self._capacity]

    def set(self, places: I64, priorities: F64) -> None:
        """Priorities (n,) of leaves `places` (n,); of a place named twice the last counts."""
        self.leaves[places] = priorities
        nodes = places
        for level, above in zip(self._levels, [*self._levels[1:], self._top], strict=True):
            nodes = nodes // FAN_OUT
            above.reshape(-1)[nodes] = level.take(nodes, axis=0).sum(axis=1)

    def find(self, sums: F64) -> I64:
        """The leaf (n,) at which the running sum over leaves first exceeds each of `sums` (n,), which are in [0, total).

        A leaf of priority 0 is never found, whatever rounding did on the way down.
        """
        rows = np.arange(len(sums))
        running = self._top.cumsum()
        sums = np.minimum(sums, np.nextafter(running[-1], 0.0))
        nodes = running.searchsorted(sums, side="right")
        sums = sums - np.where(nodes > 0, running[nodes - 1], 0.0)
        for level in reversed(self._levels):
            running = level.take(nodes, axis=0).cumsum(axis=1)
            sums = np.minimum(sums, np.nextafter(running[:, -1], 0.0))
            child = (running <= sums[:, None]).sum(axis=1)
            sums = sums - np.where(child > 0, running[rows, child - 1], 0.0)
            nodes = nodes * FAN_OUT + child
        return nodes
