"""Which rows are new: a hash for each row, equal hashes confirmed row by row.

Called by the loop in genetic.py. O(n d) where comparing all pairs is O(n^2 d). Never calls a row a duplicate on its hash alone.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64, I64, Bool


def weights(variables: int) -> F64:
    """(d,) fixed random weights in [0.5, 1.5): the same in every run, so that hashes need not be stored."""
    return np.random.Generator(np.random.PCG64(20020401)).random(variables) + 0.5


def hashes(x: F64, weight: F64) -> F64:
    """(n,) of rows x (n, d): equal rows have equal hashes, since each row is one and the same dot product."""
    return np.asarray(np.vecdot(x, weight))


def new_rows(x: F64, *, hashed: F64, among: tuple[F64, ...], among_hashed: tuple[F64, ...]) -> Bool | None:
    """(k,) True where a row of x (k, d) is in no matrix of `among` and not earlier in x; None when all are new."""
    everything = np.concatenate([*among_hashed, hashed])
    order = everything.argsort(kind="stable")
    ranked = everything[order]
    same = np.flatnonzero(ranked[1:] == ranked[:-1])
    if not len(same):
        return None
    # The exact test. The sort is stable: of two neighbours with one hash the later may go, the earlier stays.
    matrices = (*among, x)
    later, earlier = _rows(matrices, order[same + 1]), _rows(matrices, order[same])
    known = (later == earlier).all(axis=1)
    for p in np.flatnonzero(~known):
        # Two rows that share a hash by accident: look at all earlier ones that share it.
        run = same[p]
        while run > 0 and ranked[run - 1] == ranked[run] and not known[p]:
            run -= 1
            known[p] = bool((later[p] == _rows(matrices, order[[run]])[0]).all())
    old = order[same + 1][known] - (len(everything) - len(x))
    old = old[old >= 0]
    if not len(old):
        return None
    new = np.ones(len(x), dtype=np.bool_)
    new[old] = False
    return new


def _rows(matrices: tuple[F64, ...], at: I64) -> F64:
    """Rows `at` (k,) of the matrices put one below the other."""
    found: F64 = np.empty((len(at), matrices[0].shape[1]))
    start = 0
    for matrix in matrices:
        inside = (at >= start) & (at < start + len(matrix))
        found[inside] = matrix[at[inside] - start]
        start += len(matrix)
    return found
