"""Ranks, crowding and the binary tournament.

Called by the algorithms. Non-dominated sorting is moocore's, which is quicker than anything in NumPy.
"""

from __future__ import annotations

import moocore
import numpy as np

from rlaas_ray.specs.arrays import F64, I64, Bool

Ranks = np.ndarray[tuple[int], np.dtype[np.signedinteger]]


def ranks(f: F64) -> Ranks:
    """(n,) the front of each row, 0 is non-dominated. Equal rows share theirs. f (n, m) minimised, finite."""
    return np.asarray(moocore.pareto_rank(f))


def first_fronts(rank: Ranks, *, need: int) -> I64 | None:
    """Rows of the fronts that can survive when `need` rows do: whole fronts, the one that is split last. None: all rows."""
    held = np.bincount(rank).cumsum()
    last = int(np.searchsorted(held, need))
    return np.flatnonzero(rank <= last) if last < len(held) - 1 else None


def crowding(f: F64, *, rank: Ranks) -> F64:
    """(n,) crowding distance (Deb et al. 2002) of each row within its own front, all fronts at once; mean over objectives.

    Infinite at both ends of every objective; an objective that is constant on a front of three or more adds nothing.
    """
    n, m = f.shape
    columns = np.ascontiguousarray(f.T)
    order = columns.argsort(axis=1, kind="stable")
    row = np.arange(0, n * m, n)[:, None]
    starts = np.zeros(1, dtype=np.int64)
    if rank.any():
        # Stable by rank on top of the order by value: radix sort, fronts become runs, the same runs in every objective.
        narrow = rank.astype(np.int16) if n < 32768 else rank
        again = narrow[order].argsort(axis=1, kind="stable")
        order = order.reshape(-1)[again + row]
        ranked = rank[order[0]]
        starts = np.concatenate([starts, np.flatnonzero(ranked[1:] != ranked[:-1]) + 1])
    ends = np.append(starts[1:], n) - 1
    order += row
    value = columns.reshape(-1)[order]
    span = value[:, ends] - value[:, starts]
    constant = span == 0.0
    gap = np.zeros((m, n))
    gap[:, 1:-1] = value[:, 2:] - value[:, :-2]
    scale = np.where(constant, np.inf, span)
    if len(starts) == 1:
        gap /= scale
    else:
        gap /= np.repeat(scale, ends - starts + 1, axis=1)
    gap[:, starts] = np.inf
    gap[:, ends] = np.inf
    if constant.any():
        # As in pymoo: no ends where all are equal, unless the front is one or two rows.
        gap[np.repeat(constant & (ends - starts > 1), ends - starts + 1, axis=1)] = 0.0
    spread = np.empty(m * n)
    spread[order] = gap
    total: F64 = spread.reshape(m, n).sum(axis=0)
    total /= m
    return total


def parents(
    goodness: F64 | None, *, rows: int, matings: int, rng: np.random.Generator, f: F64 | None = None
) -> tuple[I64, I64]:
    """Two parents a mating, each the better of two drawn rows (smaller `goodness` (rows,); the first drawn when equal).

    Where objectives f (rows, m) are given, a row that dominates the other wins whatever its goodness; NaN dominates nothing.
    Rows are drawn as whole permutations after one another, so that each row meets equally often. None: no preference.
    """
    draws = 2 if goodness is None else 4
    rounds = -(-draws * matings // rows)
    drawn = rng.random((rounds, rows)).argsort(axis=1).reshape(-1)
    # Neighbours come from one permutation, so that a row seldom meets or mates itself.
    drawn = np.ascontiguousarray(drawn[: draws * matings].reshape(matings, draws).T)
    if goodness is None:
        return drawn[0], drawn[1]
    key = goodness[drawn]
    first = key[0::2] <= key[1::2]
    if f is not None:
        first = _dominating(f[drawn], otherwise=first)
    won = np.where(first, drawn[0::2], drawn[1::2])
    return won[0], won[1]


def _dominating(pairs: F64, *, otherwise: Bool) -> Bool:
    """(2, k) True where row 2i of pairs (4, k, m) dominates row 2i + 1, False the other way round, else `otherwise`."""
    a, b = pairs[0::2], pairs[1::2]
    no_worse, no_better = a[..., 0] <= b[..., 0], a[..., 0] >= b[..., 0]
    for column in range(1, pairs.shape[2]):
        no_worse &= a[..., column] <= b[..., column]
        no_better &= a[..., column] >= b[..., column]
    return np.asarray((no_worse & ~no_better) | (otherwise & (no_worse | ~no_better)))


def chosen_mask(rows: I64, *, of: int) -> Bool:
    """(of,) True at `rows`."""
    mask: Bool = np.zeros(of, dtype=np.bool_)
    mask[rows] = True
    return mask
