"""SPEA2 (Zitzler, Laumanns & Thiele 2001): strengths and density; a front that is too large loses its closest rows.

Made by algorithms.py. Never evaluates; its loop is genetic.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any, ClassVar

import moocore
import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize.evolution import Setup
from rlaas_ray.optimize.genetic import Genetic
from rlaas_ray.optimize.kernels import niching, strength
from rlaas_ray.specs.arrays import F64, I64, Array

# Twice as many rows give three matrices of 128 MB.
LARGEST = 2000


class Spea2(Genetic):
    """SBX (eta 15, chance 0.9) and PM (eta 20) unless the variation says otherwise; distances are normalised, as in pymoo."""

    name: ClassVar[str] = "spea2"

    def __init__(self, setup: Setup, *, epsilon_horizon: int | None = None) -> None:
        if setup.population_size > LARGEST:
            raise InvalidInput(
                "population_size of spea2",
                given=setup.population_size,
                expected=f"at most {LARGEST:,}: it compares all pairs of twice as many rows",
                cure="Use nsga2 or nsga3, or a smaller population.",
            )
        super().__init__(setup, epsilon_horizon=epsilon_horizon)
        self._norm = niching.Normaliser.fresh(setup.objectives)

    def _among(self, f: F64, *, need: int) -> tuple[I64, F64]:
        n = len(f)
        self._norm.update(f, front=f)
        scaled = self._norm.scaled(f)
        kth = min(isqrt(n), n - 1)
        front = np.flatnonzero(moocore.is_nondominated(f, keep_weakly=True))
        if len(front) < need:
            apart = strength.squared_distances(scaled, scaled)
            np.fill_diagonal(apart, np.inf)
            fitness = strength.raw_fitness(f) + strength.density(np.partition(apart, kth, axis=1)[:, kth])
            fitness[self._ends(f, front)] = -1.0
            # Strengths are whole numbers >= 1 where a row is dominated, so that the front comes first.
            rows = fitness.argsort(kind="stable")[:need]
            return rows, fitness[rows]
        # Whoever survives is non-dominated: no strengths, density alone.
        apart = strength.squared_distances(scaled[front], scaled)
        apart[np.arange(len(front)), front] = np.inf
        fitness = strength.density(np.partition(apart, kth, axis=1)[:, kth])
        fitness[np.searchsorted(front, self._ends(f, front))] = -1.0
        if len(front) > need:
            within = apart[:, front]
            near = strength.nearest(within, count=min(len(front), 12))
            kept = strength.truncated(within, keep=need, near=near)
            return front[kept], fitness[kept]
        return front, fitness

    def _ends(self, f: F64, front: I64) -> I64:
        """Rows of the front nearest to the extremes: the best parents."""
        nearest: I64 = strength.squared_distances(self._norm.extremes, f[front]).argmin(axis=1)
        return front[nearest]

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See Evolution."""
        header, arrays = super().state()
        return header, arrays | self._norm.arrays()

    def resume(self, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """See Genetic."""
        super().resume(header, arrays)
        self._norm = niching.Normaliser.read(arrays)
