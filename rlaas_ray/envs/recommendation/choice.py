"""What a user clicks on a slate: the two choice models, and the slates themselves as 3-subsets of 10 candidates.

Called by dynamics.py, baselines.py and problem.py. Draws nothing: the uniform number is handed in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from rlaas_ray.specs.arrays import F64, I64, Bool

CANDIDATES, SHOWN = 10, 3
# All 120 slates in lexicographic order: what an index of the action space means.
SLATES: I64 = np.asarray(list(itertools.combinations(range(CANDIDATES), SHOWN)), dtype=np.int64)
PAIRS = tuple(itertools.combinations(range(SHOWN), 2))
Rule = Literal["mnl", "proportional"]
# Mass of clicking nothing. MNL with a null utility of 1 is the model that fits the published returns; `proportional` is what
# RecSim's environment factory builds (google-research/recsim, choice_model.py).
NULL: Mapping[str, float] = {"mnl": math.e, "proportional": 2.0}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Response:
    """slot I64 (B,), -1 where nothing was clicked; click F64 (B,), the probability that anything would be."""

    slot: I64
    click: F64


def mass(interest: F64, *, rule: str) -> F64:
    """Weight of each document from the user's interest in its topic: exp(I), or I + 1. Same shape."""
    return np.exp(interest) if rule == "mnl" else interest + 1.0


def choose(weight: F64, *, rule: str, uniform: F64) -> Response:
    """One click or none. weight (B, 3), uniform (B,) in (0, 1).

    U times the total is held against the running sum, the null last: normalising first could leave a slot unreachable.
    """
    first = weight[:, 0]
    second = first + weight[:, 1]
    third = second + weight[:, 2]
    total = third + NULL[rule]
    mark = uniform * total
    slot = (mark >= first).astype(np.int64) + (mark >= second) + (mark >= third)
    return Response(slot=np.where(slot == SHOWN, -1, slot), click=third / total)


def top(score: F64) -> I64:
    """The three candidates with the highest scores, ties to the lower index, best first. score (B, 10) -> (B, 3)."""
    order: I64 = np.argsort(-score, axis=1, kind="stable")[:, :SHOWN]
    return order


def index_of(shown: I64) -> I64:
    """The index of a slate among SLATES, whatever the order of its documents. shown (B, 3) distinct -> (B,)."""
    ordered = np.sort(shown, axis=1)
    found: I64 = _INDEX[ordered[:, 0], ordered[:, 1], ordered[:, 2]]
    return found


def repair(shown: I64) -> tuple[I64, I64]:
    """Slates without duplicates, and how many were replaced. A duplicate becomes the lowest candidate that is not in the slate.

    shown (B, 3) -> (B, 3), (B,)
    """
    made, rows = shown.copy(), np.arange(len(shown))
    used: Bool = np.zeros((len(shown), CANDIDATES), dtype=np.bool_)
    for slot in range(SHOWN):
        used[rows, shown[:, slot]] = True
    repaired = np.zeros(len(shown), dtype=np.int64)
    for slot in range(1, SHOWN):
        twice = shown[:, slot] == shown[:, 0]
        if slot == SHOWN - 1:
            twice |= shown[:, slot] == shown[:, 1]
        made[:, slot] = np.where(twice, np.argmin(used, axis=1), made[:, slot])
        used[rows, made[:, slot]] = True
        repaired += twice
    return made, repaired


def _indices() -> I64:
    table = np.full((CANDIDATES,) * SHOWN, -1, dtype=np.int64)
    table[SLATES[:, 0], SLATES[:, 1], SLATES[:, 2]] = np.arange(len(SLATES))
    return table


_INDEX = _indices()
