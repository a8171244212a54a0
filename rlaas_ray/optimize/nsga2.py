"""NSGA-II (Deb et al. 2002): fronts first, then room along each front.

Made by algorithms.py. Never evaluates; its loop is genetic.py.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from rlaas_ray.optimize.genetic import Genetic
from rlaas_ray.optimize.kernels import ranking
from rlaas_ray.specs.arrays import F64, I64


class Nsga2(Genetic):
    """SBX (eta 15, chance 0.9) and PM (eta 20) unless the variation says otherwise, as in pymoo."""

    name: ClassVar[str] = "nsga2"
    # As pymoo's: between rows of different fronts that do not dominate each other room decides. By the front alone the search
    # is faster at first and loses pieces of a front that has gaps (ZDT3: a third of the seeds).
    dominance_decides: ClassVar[bool] = True

    def _among(self, f: F64, *, need: int) -> tuple[I64, F64]:
        rank = ranking.ranks(f)
        rows = ranking.first_fronts(rank, need=need)
        if rows is not None:
            f, rank = f[rows], rank[rows]
        room = ranking.crowding(f, rank=rank)
        np.negative(room, out=room)
        # Among equals chance decides, not the order in which they came.
        order = np.lexsort((self._rng.random(len(room)), room, rank))[:need]
        return order if rows is None else rows[order], room[order]
