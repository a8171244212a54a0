"""What MOEA/D adds: one number for a row and a direction, and which children take which subproblems, all at once.

Called by moead.py. Tchebycheff and penalty boundary intersection as in Zhang & Li 2007; never draws but in `at_most`.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64, I64, Bool

THETA = 5.0
# Pairs of directions that are looked at together: 32 MB.
_CELLS = 4_000_000


def neighbours(directions: F64, *, count: int) -> I64:
    """(n, count) the nearest directions of each, itself first. directions (n, m)."""
    square = np.square(directions).sum(axis=1)
    found = np.empty((len(directions), count), dtype=np.int64)
    step = max(1, _CELLS // len(directions))
    for start in range(0, len(directions), step):
        rows = slice(start, start + step)
        apart = square - 2.0 * (directions[rows] @ directions.T)
        apart[np.arange(len(apart)), np.arange(start, start + len(apart))] = -np.inf
        found[rows] = apart.argsort(axis=1, kind="stable")[:, :count]
    return found


def inverse(near: I64) -> tuple[I64, Bool]:
    """Whose neighbourhoods each subproblem is in: (n, w) of rows of near (n, t), padded, and True where that is no padding."""
    n, count = near.shape
    subproblem = near.reshape(-1)
    order = subproblem.argsort(kind="stable")
    sizes = np.bincount(subproblem, minlength=n)
    place = np.arange(len(order)) - np.repeat(sizes.cumsum() - sizes, sizes)
    whose = np.zeros((n, int(sizes.max())), dtype=np.int64)
    real = np.zeros(whose.shape, dtype=np.bool_)
    whose[subproblem[order], place] = order // count
    real[subproblem[order], place] = True
    return whose, real


def scalar(off: F64, *, weight: F64, unit: F64, boundary: bool) -> F64:
    """The value of rows for directions, smaller is better: off (m, ...) from the ideal, weight and unit broadcast to it.

    `boundary`: distance along the direction and 5 times the distance from it (PBI); else the largest weighted distance.
    """
    if not boundary:
        return np.asarray((np.abs(off) * weight).max(axis=0))
    along = off[0] * unit[0]
    square = np.square(off[0])
    for column, direction in zip(off[1:], unit[1:], strict=True):
        along += column * direction
        square += np.square(column)
    square -= np.square(along)
    np.maximum(square, 0.0, out=square)
    np.sqrt(square, out=square)
    square *= THETA
    square += along
    return np.asarray(square)


def at_most(winner: I64, *, limit: int, rng: np.random.Generator) -> Bool:
    """(k,) True for at most `limit` entries of each value of winner (k,), drawn at random."""
    order = np.lexsort((rng.random(len(winner)), winner))
    ranked = winner[order]
    starts = np.flatnonzero(np.concatenate([np.ones(1, dtype=np.bool_), ranked[1:] != ranked[:-1]]))
    place = np.arange(len(ranked)) - np.repeat(starts, np.diff(np.append(starts, len(ranked))))
    kept = np.empty(len(winner), dtype=np.bool_)
    kept[order] = place < limit
    return kept
