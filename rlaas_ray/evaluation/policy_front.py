"""The front that a weight-conditioned policy reaches: which weights are beaten, hypervolume, expected utility, sparsity.

Called by `train/fronts.py` on what `vector_returns.py` measured, and by tests. Pure: never runs an env and never chooses a point.

`K` weights, `E` episodes, `m` objectives.
"""

from __future__ import annotations

import itertools

import moocore
import numpy as np
from scipy import special

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, Bool

WEIGHTS = 21
UTILITIES = 100


def weights(size: int, *, count: int = WEIGHTS) -> F64:
    """`count` weights (count, m) over the simplex: the finest lattice that fits (Das & Dennis 1998), its centre, then draws.

    The draws are those of one seed. For m > count: the corners, m of them.
    """
    parts = 1
    while _lattice_size(size, parts=parts + 1) <= count:
        parts += 1
    places = itertools.combinations_with_replacement(range(size), parts)
    rows = np.asarray(sorted(_of_places(one, size=size) for one in places), dtype=np.float64) / parts
    missing = count - len(rows)
    if missing <= 0:
        return rows
    drawn = np.random.default_rng(count).dirichlet(np.ones(size), size=missing - 1)
    return np.concatenate([rows, np.full((1, size), 1.0 / size), drawn])


def intervals(returns: F64, *, level: float = 0.95) -> F64:
    """Student's intervals (K, m, 2) of the means of returns (K, E, m), E >= 2."""
    half = _half(returns, level=level)
    mean = returns.mean(axis=1)
    return np.stack((mean - half, mean + half), axis=-1)


def kept(returns: F64, *, level: float = 0.95) -> Bool:
    """Weights (K,) that no other beats beyond its interval; returns (K, E, m), larger is better, on the same worlds.

    One beats another when the interval of the mean difference lies at or above 0 in every objective, and above 0 in one: a
    point is not dropped for what chance may have done. Of weights with the very same means the first is kept.
    """
    count = len(returns)
    alive = np.ones(count, dtype=np.bool_)
    mean = returns.mean(axis=1)
    for one in range(count):
        difference = returns - returns[one]  # of all others over this one
        low = difference.mean(axis=1) - _half(difference, level=level)
        beats = (low >= 0).all(axis=1) & (low > 0).any(axis=1)
        twin = (mean[:one] == mean[one]).all(axis=1)
        alive[one] = not beats.any() and not twin.any()
    return alive


def hypervolume(points: F64, *, reference: F64) -> float:
    """What points (n, m), larger is better, dominate above the reference (m,), in the units of the objectives."""
    inside = points[(points > reference).all(axis=1)]
    return float(moocore.hypervolume(-inside, ref=-reference)) if len(inside) else 0.0


def expected_utility(points: F64, *, draws: int = UTILITIES) -> float:
    """Mean over uniform weights of what the best of points (n, m), larger is better, is worth (Zintgraf et al. 2015)."""
    drawn = np.random.default_rng(draws).dirichlet(np.ones(points.shape[1]), size=draws)
    return float((drawn @ points.T).max(axis=1).mean())


def sparsity(points: F64) -> float:
    """Mean squared distance of neighbours, summed over the objectives, of points (n, m) (Xu et al. 2020); 0 for one point."""
    if len(points) < 2:
        return 0.0
    gaps = np.diff(np.sort(points, axis=0), axis=0)
    return float(np.square(gaps).sum() / (len(points) - 1))


def _half(returns: F64, *, level: float) -> F64:
    episodes = returns.shape[1]
    if episodes < 2:
        raise InvalidInput("episodes of a front", given=episodes, expected="2 or more: one has no spread")
    t = float(special.stdtrit(episodes - 1, (1 + level) / 2))
    return np.asarray(t * returns.std(axis=1, ddof=1) / np.sqrt(episodes), dtype=np.float64)


def _lattice_size(size: int, *, parts: int) -> int:
    return int(special.comb(size + parts - 1, parts, exact=True))


def _of_places(places: tuple[int, ...], *, size: int) -> tuple[int, ...]:
    return tuple(places.count(column) for column in range(size))
