"""A binary sum tree over priorities in flat arrays: batched updates and batched descent, for prioritised replay.

Held by memory.py. The upper levels are one flat array of up to 2048 sums that a binary search enters, so that a descent is a few
array operations for each of the levels below. Sums are recomputed from children, never incremented: no drift. Never draws a
random number.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64, I64

TOP = 2_048  # sums: a cumulative sum over them costs as much as the descent through one or two levels


class SumTree:
    """Priorities >= 0 of `capacity` leaves; at first all zero."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._levels: list[
            F64
        ] = []  # from the leaves up, each of even length; pairs of one are the entries of the next
        width = capacity
        while width > TOP or not self._levels:
            width = (width + 1) // 2
            self._levels.append(np.zeros(2 * width))
        self._top = np.zeros(width)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self._top.sum())

    @property
    def leaves(self) -> F64:
        """(capacity,), a view."""
        return self._levels[0][: self._capacity]

    def set(self, places: I64, priorities: F64) -> None:
        """Priorities (n,) of leaves `places` (n,); of a place named twice the last counts."""
        self._levels[0][places] = priorities
        nodes = places
        for level, above in zip(self._levels, [*self._levels[1:], self._top], strict=True):
            nodes = nodes >> 1
            left = nodes << 1
            above[nodes] = level.take(left) + level.take(left + 1)

    def find(self, sums: F64) -> tuple[I64, F64]:
        """The leaf (n,) at which the running sum over leaves first exceeds each of `sums` (n,), in [0, total), and its priority.

        A leaf of priority 0 is never found, whatever rounding did on the way down.
        """
        running = self._top.cumsum()
        wanted = np.minimum(sums, np.nextafter(running[-1], 0.0))
        nodes: I64 = running.searchsorted(wanted, side="right")
        rest = wanted - (running - self._top).take(nodes)
        for level in reversed(self._levels):
            nodes = nodes << 1
            left = level.take(nodes)
            right = rest >= left
            rest -= left * right
            nodes += right
        found = self._levels[0].take(nodes)
        if not found.all():  # rounding led some to an empty leaf: those are looked up in the plain running sum
            empty = found == 0.0
            plain = self.leaves.cumsum()
            nodes[empty] = plain.searchsorted(np.minimum(wanted[empty], np.nextafter(plain[-1], 0.0)), side="right")
            found = self._levels[0].take(nodes)
        return nodes, found
