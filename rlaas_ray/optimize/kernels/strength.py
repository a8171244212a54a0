"""What SPEA2 adds: raw fitness from strengths, density from the k-th neighbour, and the truncation of a front that is too large.

Called by spea2.py. Zitzler, Laumanns & Thiele 2001; removals are exactly those of their archive truncation. Never draws.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64, I64, Bool

# Neighbours listed beyond the k-th, and how many of them the truncation looks at before it sorts whole rows.
_SPARE = 8
_LISTED = 12


def raw_fitness(f: F64) -> F64:
    """(n,) for each row the strengths of those that dominate it, summed; 0 is non-dominated. f (n, m) minimised."""
    columns = np.ascontiguousarray(f.T)
    no_worse = columns[0][:, None] <= columns[0]
    for column in columns[1:]:
        no_worse &= column[:, None] <= column
    # i dominates j where it is no worse everywhere and not the other way round as well (then they are equal).
    dominates = (no_worse & ~no_worse.T).astype(np.float32)
    strength = dominates.sum(axis=1)
    return np.asarray(strength @ dominates, dtype=np.float64)


def squared_distances(rows: F64, others: F64) -> F64:
    """(k, n) between rows (k, m) and others (n, m), by differences: symmetric to the last bit, no digits lost near 0."""
    left, right = np.ascontiguousarray(rows.T), np.ascontiguousarray(others.T)
    total: F64 = left[0][:, None] - right[0]
    np.square(total, out=total)
    for i in range(1, len(left)):
        apart = left[i][:, None] - right[i]
        np.square(apart, out=apart)
        total += apart
    return total


def nearest(apart: F64, *, count: int) -> tuple[F64, I64]:
    """Ascending distances (k, count) and whose (k, count), in each row of apart (k, n), count <= n.

    The sort of all is in float32, which is twice as fast; the exact order within `count` is then made right. An entry that
    rounding may have kept out is no nearer than the last one by more than that rounding.
    """
    rough = apart.astype(np.float32).argsort(axis=1)[:, :count]
    row = np.arange(len(apart))[:, None]
    value = apart[row, rough]
    order = value.argsort(axis=1, kind="stable")
    return value[row, order], rough[row, order]


def density(kth: F64) -> F64:
    """1 / (sigma_k + 2) of squared distances kth (n,): below 1, so that it never outweighs a strength."""
    return np.asarray(1.0 / (np.sqrt(kth) + 2.0))


def truncated(apart: F64, *, keep: int, near: tuple[F64, I64]) -> I64:
    """`keep` of k rows, ascending: while there are more, the one nearest to another goes, by the next neighbours where tied.

    apart (k, k) squared distances, infinite on its diagonal; near: `nearest` of it (distances, whose). The closest pair of
    those alive moves through the sorted pairs in one direction only, so that a removal costs a step and two short lists.
    """
    alive = np.ones(len(apart), dtype=np.bool_)
    excess = len(apart) - keep
    limit = _enough(near[0][:, 0], excess)
    while excess:
        first, second, distance = _pairs(apart, alive=alive, limit=limit)
        excess -= _remove(apart, alive=alive, pairs=(first, second, distance), near=near, most=excess)
        limit = limit * 4.0 if limit > 0.0 else float(np.min(apart[alive][:, alive]))
    return np.flatnonzero(alive)


def _enough(closest: F64, excess: int) -> float:
    # A guess at the distance of the last pair that is needed; when it was too small, the search goes on with more.
    ranked = np.sort(closest)
    return float(ranked[min(len(ranked) - 1, excess + excess // 2)])


def _pairs(apart: F64, *, alive: Bool, limit: float) -> tuple[list[int], list[int], list[float]]:
    """Alive pairs no farther apart than `limit`, nearest first."""
    flat = np.flatnonzero(apart <= limit)
    first, second = np.divmod(flat, len(apart))
    once = (first < second) & alive[first] & alive[second]
    first, second = first[once], second[once]
    distance = apart[first, second]
    order = distance.argsort(kind="stable")
    return first[order].tolist(), second[order].tolist(), distance[order].tolist()


def _remove(
    apart: F64, *, alive: Bool, pairs: tuple[list[int], list[int], list[float]], near: tuple[F64, I64], most: int
) -> int:
    """Goes through the pairs until `most` rows are gone or the pairs are; marks them in `alive`, gives how many."""
    living = alive.tolist()
    values, whose = near[0][:, :_LISTED].tolist(), near[1][:, :_LISTED].tolist()
    first, second, distance = pairs
    gone, at, count = 0, 0, len(first)
    while gone < most and at < count:
        i, j = first[at], second[at]
        if not (living[i] and living[j]):
            at += 1
            continue
        tied = {i, j}
        after = at + 1
        while after < count and distance[after] == distance[at]:
            if living[first[after]] and living[second[after]]:
                tied |= {first[after], second[after]}
            after += 1
        victim = _nearer(values, whose, living=living, i=i, j=j) if len(tied) == 2 else -1
        if victim < 0:
            victim = _nearest_of(apart, living=np.array(living), rows=np.array(sorted(tied)))
        living[victim] = False
        gone += 1
    alive[:] = living
    return gone


def _nearer(values: list[list[float]], whose: list[list[int]], *, living: list[bool], i: int, j: int) -> int:
    """Of two rows that are each other's nearest the one whose next living neighbours are nearer; -1: the lists do not tell."""
    own = (v for v, w in zip(values[i], whose[i], strict=True) if living[w])
    other = (v for v, w in zip(values[j], whose[j], strict=True) if living[w])
    for a, b in zip(own, other, strict=False):
        if a != b:
            return i if a < b else j
    return -1


def _nearest_of(apart: F64, *, living: Bool, rows: I64) -> int:
    """Of `rows` the one whose sorted distances to all living rows come first; the lowest of equals."""
    ranked = np.sort(apart[rows][:, living], axis=1)
    return int(rows[np.lexsort(ranked.T[::-1])[0]])
