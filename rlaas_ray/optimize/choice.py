"""Which point of a front to take: TOPSIS, as a plain function on arrays.

Called by search.py, by the quickstart and by users on their own tables. Never searches, draws or reads a file; the ideal,
the anti-ideal and the norms come from the rows that are given, so adding a row can change the order of the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, Bool

# Scores closer than this are a tie: they differ by rounding, not by merit.
TIE = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choice:
    """The chosen row and why: closeness to the ideal in [0, 1], the ideal and the anti-ideal in the given units."""

    index: int
    score: F64  # (n,)
    ideal: F64  # (m,)
    anti_ideal: F64  # (m,)


def topsis(
    front: F64, weight: F64, *, minimise: Bool, normalisation: Literal["vector", "min_max"] = "vector"
) -> Choice:
    """The row nearest the ideal and farthest from the anti-ideal (Hwang & Yoon 1981).

    front (n, m) float64, weight (m,) not negative (scaled to sum 1 here), minimise (m,) bool. A constant column counts
    nothing; when all rows are equal every score is 0.5. Ties go to the lower weighted regret, then to the lower index.
    Libraries often scale by min-max where textbooks scale by the vector norm; the two can rank differently.
    """
    weight = _checked(front, weight, minimise=minimise)
    # Every column to "larger is better" with its best at `ideal`, so that direction appears once.
    ideal = np.where(minimise, front.min(axis=0), front.max(axis=0))
    anti_ideal = np.where(minimise, front.max(axis=0), front.min(axis=0))
    if normalisation == "vector":
        # Scaled by the largest entry first: squares of 1e200 would overflow.
        largest = np.abs(front).max(axis=0)
        safe = np.where(largest > 0, largest, 1.0)
        size = safe * np.sqrt(np.square(front / safe).sum(axis=0))
    else:
        size = np.abs(ideal - anti_ideal)
    scale = weight / np.where(size > 0, size, 1.0)
    to_ideal = np.sqrt(np.square((front - ideal) * scale).sum(axis=1))
    to_anti_ideal = np.sqrt(np.square((front - anti_ideal) * scale).sum(axis=1))
    both = to_ideal + to_anti_ideal
    score = np.where(both > 0, to_anti_ideal / np.where(both > 0, both, 1.0), 0.5)
    spread = np.abs(ideal - anti_ideal)
    regret = (np.abs(front - ideal) / np.where(spread > 0, spread, 1.0)) @ weight
    best = np.flatnonzero(score >= score.max() - TIE)
    index = int(best[np.argmin(regret[best])])
    return Choice(index=index, score=score, ideal=ideal, anti_ideal=anti_ideal)


def _checked(front: F64, weight: F64, *, minimise: Bool) -> F64:
    if front.ndim != 2 or front.shape[0] == 0 or front.shape[1] == 0 or front.dtype != np.float64:
        raise InvalidInput(
            "front of a choice", given=(front.shape, str(front.dtype)), expected="(n, m) float64, n, m >= 1"
        )
    columns = front.shape[1]
    if weight.shape != (columns,) or minimise.shape != (columns,) or minimise.dtype != np.bool_:
        raise InvalidInput(
            "weight and minimise of a choice",
            given=(weight.shape, minimise.shape, str(minimise.dtype)),
            expected=f"({columns},) numbers and ({columns},) bool, one for each objective",
        )
    if not np.isfinite(front).all():
        raise InvalidInput(
            "front of a choice", given="NaN or infinity", expected="finite numbers", cure="Drop the failed rows first."
        )
    if not np.isfinite(weight).all() or (weight < 0).any() or weight.sum() <= 0:
        raise InvalidInput("weight of a choice", given=weight.tolist(), expected="numbers >= 0 with a positive sum")
    return np.asarray(weight / weight.sum(), dtype=np.float64)
