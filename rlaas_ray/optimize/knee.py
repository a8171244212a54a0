"""Where a front bends: the point from which every objective can only be bettered at a steep price in another.

Called by choice.py on regrets (0 at the ideal, 1 at the anti-ideal). Takes no weights, draws nothing.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from rlaas_ray.specs.arrays import F64

Basis = Literal["plane", "trade-off", "balance"]
_NEAR = 0.125  # of the normalised front; also at least 2 m neighbours (both as in pymoo's HighTradeoffPoints)
_AT_ONCE = 1 << 15  # pairs in a block: what fits the cache
_BULGE = 1e-9  # less than this beyond the plane is rounding


def knee(regret: F64) -> tuple[F64, Basis]:
    """Scores (n,), larger is more of a knee, and what they are. regret (n, m), rows mutually non-dominated.

    "plane": signed distance to the hyperplane through the extreme points, towards the ideal (Das 1999), for 2 and 3
    objectives. "balance": minus the largest regret, where no point lies beyond that plane: such a front has no knee.
    "trade-off": what is lost for each unit gained on the best way out (Rachmawati & Srinivasan 2009), as T / (1 + T),
    for more objectives and where the extremes span no plane.
    """
    beyond = _beyond(regret) if regret.shape[1] in (2, 3) else None
    if beyond is None:
        return _trade_off(regret), "trade-off"
    if beyond.max() <= _BULGE:
        return -regret.max(axis=1), "balance"
    return beyond, "plane"


def _beyond(regret: F64) -> F64 | None:
    """Distance from the hyperplane through the extreme points; None where they span none that faces the ideal."""
    objectives = regret.shape[1]
    # The extreme of an axis is the point nearest to it: the smallest largest regret in the other objectives.
    off_axis = np.where(np.eye(objectives, dtype=np.bool_), 1.0, 1e6)[:, None, :] * regret
    extremes = regret[off_axis.max(axis=2).argmin(axis=1)]
    if np.linalg.matrix_rank(extremes, tol=1e-9) < objectives:
        return None
    normal = np.linalg.solve(extremes, np.ones(objectives))
    return None if (normal <= 0).any() else np.asarray((1.0 - regret @ normal) / np.linalg.norm(normal))


def _trade_off(regret: F64) -> F64:
    """What the best way to a neighbour loses of what it trades: T / (1 + T), T = lost / gained; 1 where nothing is to gain."""
    points, objectives = regret.shape
    nearest = min(2 * objectives, points - 1)
    if nearest < 1:
        return np.ones(points)
    found, columns = np.empty(points), np.ascontiguousarray(regret.T)
    rows = max(1, _AT_ONCE // points)
    for first in range(0, points, rows):
        block = slice(first, first + rows)
        lost, gained, apart = (np.zeros((len(regret[block]), points)) for _ in range(3))
        for column in columns:
            difference = column - column[block, None]
            apart += np.square(difference)
            up = np.maximum(difference, 0.0)
            lost += up
            gained += up - difference
        apart[np.arange(len(apart)), np.arange(first, first + len(apart))] = np.inf
        reach = np.maximum(np.partition(apart, nearest - 1, axis=1)[:, nearest - 1], _NEAR**2)
        share = np.where(gained > 0, lost / np.where(gained > 0, lost + gained, 1.0), 1.0)
        found[block] = np.where(apart <= reach[:, None], share, 1.0).min(axis=1)
    return found
