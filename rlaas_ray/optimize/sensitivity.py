"""How far the weights may move before another point is chosen: exact intervals, shares of the simplex, the nearest flip.

Called by choosing.py and by users with a Choice. Intervals are closed forms; shares are drawn with the generator that is
handed in. Never changes the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import choice
from rlaas_ray.optimize.choice import Choice
from rlaas_ray.optimize.measures import Measure
from rlaas_ray.specs.arrays import F64, I64, Bool

DRAWS = 4096  # of the simplex: a share is then known to 0.008 (one standard error) at worst
_AT_ONCE = 1 << 21  # numbers in a block of scores
NOBODY = -1


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sensitivity:
    """What the choice owes to its weights.

    interval (m, 2): between which weights of an objective, the others scaled to fill up to 1, the choice stays without a
    break. rival (m, 2): who takes over below and above, -1 where nobody does before 0 or 1. share (n,): of the simplex,
    drawn uniformly, in which a point wins; share_error (n,) its standard error. flip: (objective, weight, rival) of the
    end that is nearest to the weights given, None where no move of one objective changes the choice.
    """

    interval: F64
    rival: I64
    share: F64
    share_error: F64
    flip: tuple[int, float, int] | None
    reason: str


def sensitivity(
    front: F64,
    made: Choice,
    *,
    rng: np.random.Generator,
    draws: int = DRAWS,
    labels: Sequence[tuple[str, str]] | None = None,
) -> Sensitivity:
    """Of a choice made on `front` (n, m). Raises InvalidInput for the knee, which has no weights."""
    if made.measure is None:
        raise InvalidInput(
            "sensitivity of a choice by knee",
            given="no weights",
            expected="a method that has them",
            cure="No change of weights moves a knee; ask without sensitivity, or choose by topsis.",
        )
    rows = np.flatnonzero(made.candidates)
    # Who is equal to the chosen, or dominated, takes nothing over.
    may = ~made.dominated[rows] & (front[rows] != front[made.index]).any(axis=1)
    chosen = int(np.flatnonzero(rows == made.index)[0])
    interval, rival = np.empty((front.shape[1], 2)), np.empty((front.shape[1], 2), dtype=np.int64)
    for i in range(front.shape[1]):
        interval[i], rival[i] = stays(made.measure, chosen, weight=made.weight, objective=i, may=may)
    rival = np.where(rival == NOBODY, NOBODY, rows[rival])
    share = np.zeros(len(front))
    allowed = ~made.dominated[rows]
    share[rows] = shares(made.measure, allowed, columns=front.shape[1], rng=rng, draws=draws)
    flip = _nearest(interval, rival, weight=made.weight)
    named = [name for name, _ in labels] if labels else [f"objective {i + 1}" for i in range(front.shape[1])]
    return Sensitivity(
        interval=interval,
        rival=rival,
        share=share,
        share_error=np.sqrt(share * (1 - share) / draws),
        flip=flip,
        reason=_reason(flip, weight=made.weight, share=share[made.index], names=named),
    )


def stays(measure: Measure, chosen: int, *, weight: F64, objective: int, may: Bool) -> tuple[F64, I64]:
    """[low, high] of one weight in which no row that `may` win beats `chosen`, and who does beyond each end (-1: nobody).

    The others keep their proportions (equal ones where all are 0). weight (m,) sums to 1, may (n,).
    """
    low, high = _overtakes(measure, chosen, weight=weight, objective=objective)
    low, high = np.where(may, low, -np.inf), np.where(may, high, np.inf)
    below, above = int(low.argmax()), int(high.argmin())
    rival = np.array([below if low[below] > -np.inf else NOBODY, above if high[above] < np.inf else NOBODY])
    return np.array([max(low[below], 0.0), min(high[above], 1.0)]), rival


def _overtakes(measure: Measure, chosen: int, *, weight: F64, objective: int) -> tuple[F64, F64]:
    """For each row the nearest weight below and above that of `objective` at which it overtakes; -inf, inf: nowhere. (n,).

    All places where two points can change are known in closed form; between two of them one sign says who leads.
    """
    now = float(weight[objective])
    start = weight.copy()
    start[objective] = 0.0
    total = start.sum()
    start = start / total if total > 0 else (np.arange(len(weight)) != objective) / max(len(weight) - 1, 1)
    step = -start
    step[objective] = 1.0
    turns = measure.turns(chosen, start=start, step=step)
    own = measure.each(slice(chosen, chosen + 1))
    low, high = np.full(len(turns), -np.inf), np.full(len(turns), np.inf)
    block = max(1, _AT_ONCE // ((turns.shape[1] + 3) * len(weight)))
    for first in range(0, len(turns), block):
        rows = slice(first, first + block)
        fixed = np.broadcast_to([0.0, now, 1.0], (len(turns[rows]), 3))
        at = np.sort(np.clip(np.concatenate([np.nan_to_num(turns[rows]), fixed], axis=1), 0.0, 1.0), axis=1)
        tried = start + ((at[:, :-1] + at[:, 1:]) / 2)[..., None] * step
        ahead = (measure.each(rows).score(tried) - own.score(tried))[..., 0] > choice.TIE
        low[rows] = np.where(ahead & (at[:, 1:] <= now), at[:, 1:], -np.inf).max(axis=1)
        high[rows] = np.where(ahead & (at[:, :-1] >= now), at[:, :-1], np.inf).min(axis=1)
    return low, high


def shares(measure: Measure, allowed: Bool, *, columns: int, rng: np.random.Generator, draws: int) -> F64:
    """(n,): the part of `draws` weights, uniform on the simplex, under which a row wins; ties go to the lower index."""
    wins = np.zeros(len(allowed))
    barred = np.where(allowed, 0.0, -np.inf)
    weights = rng.dirichlet(np.ones(columns), size=draws)
    block = max(1, _AT_ONCE // len(allowed))
    for first in range(0, draws, block):
        winner = (measure.score(weights[first : first + block]) + barred).argmax(axis=1)
        wins += np.bincount(winner, minlength=len(allowed))
    return wins / draws


def _nearest(interval: F64, rival: I64, *, weight: F64) -> tuple[int, float, int] | None:
    way = np.where(rival == NOBODY, np.inf, np.abs(interval - weight[:, None]))
    # The first of those that are equally near but for rounding.
    objective, side = np.unravel_index(int((way <= way.min() + 1e-9).argmax()), way.shape)
    if not np.isfinite(way[objective, side]):
        return None
    return int(objective), float(interval[objective, side]), int(rival[objective, side])


def _reason(flip: tuple[int, float, int] | None, *, weight: F64, share: float, names: Sequence[str]) -> str:
    wins = (
        f"The choice wins under {share:.1%} of all weights." if share else "It wins under hardly any weights but these."
    )
    if flip is None:
        return f"No change of one weight moves the choice. {wins}"
    objective, end, rival = flip
    verb = "raise" if end >= weight[objective] else "lower"
    return (
        f"Nearest flip: {verb} the weight of {names[objective]} from {weight[objective]:.3g} beyond {end:.4g} "
        f"and point {rival} is chosen. {wins}"
    )
