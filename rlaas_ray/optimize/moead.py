"""MOEA/D (Zhang & Li 2007): one subproblem a direction, parents from its neighbours, a child may take any neighbour's place.

Made by algorithms.py. Children of a batch are made, evaluated and placed together. Constraints are ours: (violation, value)
decides. Never evaluates; its bookkeeping is genetic.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import generators
from rlaas_ray.optimize.evolution import Setup
from rlaas_ray.optimize.genetic import Genetic
from rlaas_ray.optimize.kernels import decomposition
from rlaas_ray.optimize.kernels import directions as simplex
from rlaas_ray.specs.arrays import F64, I64, Array


class Moead(Genetic):
    """SBX (eta 20, always; one child a mating) and PM (eta 20) unless the variation says otherwise.

    `directions` (k, m): by default as many of Das-Dennis as fit the population, which is then that many. `neighbours`: how
    many a neighbourhood has. `batches`: a generation is told in that many parts; more follow the sequential algorithm more
    closely and cost more. `scalar`: "pbi" or "tchebycheff" (None: by objectives, as in pymoo). `replaced_at_most`: of a child.
    """

    name: ClassVar[str] = "moead"

    def __init__(
        self,
        setup: Setup,
        *,
        directions: Any = None,
        neighbours: int = 20,
        batches: int = 1,
        scalar: str | None = None,
        replaced_at_most: int | None = None,
        epsilon_horizon: int | None = None,
    ) -> None:
        weight = simplex.given(directions, objectives=setup.objectives, population_size=setup.population_size)
        n = len(weight)
        super().__init__(replace(setup, population_size=n), epsilon_horizon=epsilon_horizon)
        if neighbours < 2 or not 1 <= batches <= n or (replaced_at_most is not None and replaced_at_most < 1):
            raise InvalidInput(
                "options of moead",
                given={"neighbours": neighbours, "batches": batches, "replaced_at_most": replaced_at_most},
                expected=f"neighbours >= 2, batches from 1 to {n}, replaced_at_most >= 1",
            )
        if scalar not in (None, "pbi", "tchebycheff"):
            raise InvalidInput("scalar of moead", given=scalar, expected="pbi or tchebycheff")
        self._boundary = scalar == "pbi" if scalar else setup.objectives > 2
        self._near = decomposition.neighbours(weight, count=min(neighbours, n))
        self._whose, self._real = decomposition.inverse(self._near)
        self._padding = np.flatnonzero(~self._real)
        self._weight_columns = np.ascontiguousarray(weight.T)
        self._unit_columns = np.ascontiguousarray(simplex.unit(weight).T)
        self._batches = batches
        self._most = replaced_at_most
        self._ideal: F64 = np.full(setup.objectives, np.inf)
        self._order: I64 = np.arange(n)
        self._batch = 0

    _PARENT_NEAR = 0.9

    def _first(self) -> tuple[F64, F64]:
        # As drawn: each subproblem needs a row, be it twice the same.
        return self._drawn(), np.empty(0)

    def _turn(self) -> I64:
        """Whose children this batch is: subproblems, in the random order of the generation."""
        n = self._size
        return self._order[self._batch * n // self._batches : (self._batch + 1) * n // self._batches]

    def _children(self) -> tuple[F64, F64]:
        if self._batch == 0 and self._batches > 1:
            self._order = self._rng.permutation(self._size)
        who = self._turn()
        near, n = self._near, self._size
        local = self._rng.random(len(who)) < self._PARENT_NEAR
        room = np.where(local, near.shape[1], n)
        # Two different places, in the neighbourhood or among all.
        one, two = (self._rng.random((2, len(who))) * np.stack([room, room - 1])).astype(np.int64)
        two += two >= one
        first, second = (np.where(local, near[who, np.minimum(p, near.shape[1] - 1)], p) for p in (one, two))
        x = self._setup.variation.children(self._x, first=first, second=second, each=1, rng=self._rng)
        return x, np.empty(0)

    def _take(self, f: F64, *, cv: F64, g: F64, h: F64) -> None:
        asked = self._asked
        assert asked is not None
        if self.generation == 0:
            self._x, self._f, self._cv, self._g, self._h = asked.copy(), f.copy(), cv.copy(), g.copy(), h.copy()
            self._sight(f, cv)
            self.generation = 1
            return
        who = self._turn()
        self._sight(f, cv)
        taken, by = self._takers(who, f=f, cv=cv)
        if self._most is not None:
            kept = decomposition.at_most(by, limit=self._most, rng=self._rng)
            taken, by = taken[kept], by[kept]
        for own, new in ((self._x, asked), (self._f, f), (self._cv, cv), (self._g, g), (self._h, h)):
            own[taken] = new[by]
        self._batch = (self._batch + 1) % self._batches
        self.generation += self._batch == 0

    def _sight(self, f: F64, cv: F64) -> None:
        good = f[cv <= 0.0] if cv.any() else f
        if len(good):
            self._ideal = np.minimum(self._ideal, good.min(axis=0))

    def _takers(self, who: I64, *, f: F64, cv: F64) -> tuple[I64, I64]:
        """Subproblems that a child improves, and the row of f (b, m) of the best such child of each."""
        n, rows = self._size, np.arange(self._size)
        place = np.full(n, -1)
        place[who] = np.arange(len(who))
        candidate = place[self._whose]
        columns = f.T[:, candidate]
        ideal = np.where(np.isfinite(self._ideal), self._ideal, 0.0)
        with np.errstate(invalid="ignore"):
            value = self._value(columns - ideal[:, None, None], each=True)
            held = self._value(self._f.T - ideal[:, None], each=False)
        value.reshape(-1)[self._padding] = np.inf
        if len(who) < n:
            value[candidate < 0] = np.inf
        both = self._effective(np.concatenate([self._cv, cv]))
        if both is None:
            best = value.argmin(axis=1)
            taken = np.flatnonzero(value[rows, best] < held)
            return taken, candidate[taken, best[taken]]
        violated = np.where(np.isinf(value), np.inf, both[n:][candidate])
        least = violated.min(axis=1)
        best = np.where(violated == least[:, None], value, np.inf).argmin(axis=1)
        better = (least < both[:n]) | ((least == both[:n]) & (value[rows, best] < held))
        taken = np.flatnonzero(better & np.isfinite(least))
        return taken, candidate[taken, best[taken]]

    def _value(self, off: F64, *, each: bool) -> F64:
        weight, unit = self._weight_columns, self._unit_columns
        if each:
            weight, unit = weight[:, :, None], unit[:, :, None]
        found = decomposition.scalar(off, weight=weight, unit=unit, boundary=self._boundary)
        found[np.isnan(found)] = np.inf
        return found

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See Evolution."""
        header, arrays = super().state()
        return header | {"batch": self._batch}, arrays | {"ideal": self._ideal, "order": self._order.copy()}

    def resume(self, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """See Genetic."""
        super().resume(header, arrays)
        self._ideal = generators.floats(arrays["ideal"])
        self._order = arrays["order"].astype(np.int64)
        self._batch = int(header["batch"])
