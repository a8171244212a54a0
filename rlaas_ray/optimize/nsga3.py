"""NSGA-III (Deb & Jain 2014): fronts first, then the directions that hold the fewest.

Made by algorithms.py. Never evaluates; its loop is genetic.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from rlaas_ray.optimize.evolution import Setup
from rlaas_ray.optimize.genetic import Genetic
from rlaas_ray.optimize.kernels import directions as simplex
from rlaas_ray.optimize.kernels import niching, ranking
from rlaas_ray.specs.arrays import F64, I64, Array


class Nsga3(Genetic):
    """SBX (eta 30, always) and PM (eta 20) unless the variation says otherwise, as in pymoo.

    `directions` (k, m): reference directions, not negative; by default as many of Das-Dennis as fit the population.
    """

    name: ClassVar[str] = "nsga3"

    def __init__(self, setup: Setup, *, directions: Any = None, epsilon_horizon: int | None = None) -> None:
        super().__init__(setup, epsilon_horizon=epsilon_horizon)
        found = simplex.given(directions, objectives=setup.objectives, population_size=setup.population_size)
        self._unit = simplex.unit(found)
        self._norm = niching.Normaliser.fresh(setup.objectives)

    def _among(self, f: F64, *, need: int) -> tuple[I64, F64 | None]:
        # All survivors are as good parents: pymoo's tournament then is a draw.
        rank = ranking.ranks(f)
        kept, split = np.empty(0, dtype=np.int64), np.flatnonzero(rank == 0)
        self._norm.update(f, front=f[split])
        if len(f) <= need:
            return np.arange(len(f)), None
        if len(split) < need:
            last = int(np.searchsorted(np.bincount(rank).cumsum(), need))
            kept, split = np.flatnonzero(rank < last), np.flatnonzero(rank == last)
        rows = np.concatenate([kept, split])
        if len(rows) == need:
            return rows, None
        niche, distance = niching.associate(self._norm.scaled(f[rows]), unit=self._unit)
        count = np.bincount(niche[: len(kept)], minlength=len(self._unit))
        more = niching.fill(niche[len(kept) :], distance[len(kept) :], held=count, need=need - len(kept), rng=self._rng)
        return np.concatenate([kept, split[more]]), None

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See Evolution."""
        header, arrays = super().state()
        return header, arrays | self._norm.arrays()

    def resume(self, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """See Genetic."""
        super().resume(header, arrays)
        self._norm = niching.Normaliser.read(arrays)
