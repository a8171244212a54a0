"""A ring of transitions in one preallocated record array: insertion is a slice assignment, a sample one fancy index.

Held by memory.py. Never holds an object per transition; how much memory it takes is known, and judged, before it is made.

A row is a transition over n steps: observations (d,), next_observations (d,), actions (a,), rewards, discounts, masks and
next_masks (m,) where the env has them, and named extras. A discount is gamma^k * (1 - terminated), k <= n the steps it spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import I64

Rows = npt.NDArray[np.void]  # (n,) or (T, B) records of a layout; rows["rewards"] is a view of one column


def layout(
    *,
    observations: int,
    actions: int,
    discrete: bool,
    masks: int = 0,
    extras: Mapping[str, tuple[tuple[int, ...], npt.DTypeLike]] | None = None,
) -> np.dtype[np.void]:
    """The record of one transition: sizes of an encoded observation, of a proposed action and of an action mask (0: none)."""
    fields: list[tuple[str, Any, tuple[int, ...]]] = [
        ("observations", np.float32, (observations,)),
        ("next_observations", np.float32, (observations,)),
        ("actions", np.int32 if discrete else np.float32, (actions,)),
        ("rewards", np.float32, ()),
        ("discounts", np.float32, ()),
        *((name, dtype, shape) for name, (shape, dtype) in (extras or {}).items()),
    ]
    if masks:
        fields += [("masks", np.bool_, (masks,)), ("next_masks", np.bool_, (masks,))]
    return np.dtype(fields, align=True)


def check_bytes(record: np.dtype[np.void], *, capacity: int, per_row: int, limit: int) -> int:
    """Bytes of a ring of `capacity` records and `per_row` more bytes for each. Raises InvalidInput above `limit`."""
    wanted = capacity * (record.itemsize + per_row)
    if wanted > limit:
        raise InvalidInput(
            f"a replay buffer of {capacity:,} transitions",
            given=f"{wanted:,} bytes ({record.itemsize + per_row:,} each)",
            expected=f"at most buffer_max_bytes: {limit:,}",
            cure=f"Lower buffer_size to {limit // (record.itemsize + per_row):,}, or raise buffer_max_bytes.",
        )
    return wanted


@dataclass(slots=True, kw_only=True, eq=False)
class Ring:
    """The newest `capacity` rows, oldest overwritten first."""

    rows: Rows  # (capacity,)
    size: int = 0  # rows that are filled
    cursor: int = 0  # where the next row goes

    @property
    def capacity(self) -> int:
        """Rows that it can hold."""
        return int(self.rows.shape[0])

    def insert(self, rows: Rows) -> I64:
        """Write (n,) rows of the same layout; gives the places that they took, (min(n, capacity),)."""
        rows = rows[-self.capacity :]
        count = len(rows)
        first = min(count, self.capacity - self.cursor)
        self.rows[self.cursor : self.cursor + first] = rows[:first]
        if first < count:
            self.rows[: count - first] = rows[first:]
        places = np.arange(self.cursor, self.cursor + count, dtype=np.int64)
        places[first:] -= self.capacity
        self.cursor = (self.cursor + count) % self.capacity
        self.size = min(self.capacity, self.size + count)
        return places

    def take(self, places: I64) -> Rows:
        """Copies of the rows at `places` (n,)."""
        found: Rows = self.rows.take(places)
        return found


def ring(record: np.dtype[np.void], *, capacity: int) -> Ring:
    """An empty one; its memory is reserved now and touched as it fills."""
    return Ring(rows=np.zeros(capacity, dtype=record))
