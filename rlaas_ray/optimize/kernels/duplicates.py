"""Which rows are new: a hash for each row, equal hashes confirmed row by row.

Called by the loop in genetic.py. O(n d) where comparing all pairs is O(n^2 d). Never calls a row a duplicate on its hash alone.
"""

from __future__ import annotations

import numpy as np

from rlaas_ray.specs.arrays import F64, Bool


def weights(variables: int) -> F64:
    """(d,) fixed random weights in [0.5, 1.5): the same in every run, so that hashes need not be stored."""
    return np.random.Generator(np.random.PCG64(20020401)).random(variables) + 0.5


def hashes(x: F64, weight: F64) -> F64:
    """(n,) of rows x (n, d): equal rows have equal hashes, since each row is one and the same dot product."""
    return np.asarray(np.vecdot(x, weight))


def new_rows(x: F64, hashed: F64, *, among: tuple[F64, ...], among_hashed: tuple[F64, ...]) -> Bool | None:
    """(k,) True where a row of x (k, d) is in no matrix of `among` and not earlier in x; None when all are new."""
    everything = np.concatenate([*among_hashed, hashed])
    order = everything.argsort(kind="stable")
    ranked = everything[order]
    same = ranked[1:] == ranked[:-1]
    if not same.any():
        return None
    involved = np.zeros(len(everything), dtype=np.bool_)
    involved[order[1:][same]] = True
    involved[order[:-1][same]] = True
    at = np.flatnonzero(involved)
    # The exact test, on the few rows whose hash occurs twice; the first of equal rows stays.
    _, first = np.unique(np.concatenate([*among, x])[at], axis=0, return_index=True)
    keep = np.ones(len(everything), dtype=np.bool_)
    keep[at] = False
    keep[at[first]] = True
    new = keep[len(everything) - len(x) :]
    return None if new.all() else new
