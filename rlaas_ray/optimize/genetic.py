"""The loop that NSGA-II, NSGA-III and SPEA2 share: parents -> children -> new rows only -> survivors, all as arrays.

Subclassed by those modules, which say who survives and how good a survivor is as a parent. Rows of variables stay where
they are: only children that survive are copied, into the places of those that died. Never evaluates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from rlaas_ray.optimize import generators
from rlaas_ray.optimize.evolution import Population, Setup, told
from rlaas_ray.optimize.kernels import constraints, duplicates, ranking
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

# Rounds of making up for children that were there already, as in pymoo.
REFILLS = 100
EMPTY = 10  # refills in a row that bring nothing new end the search for rows: the space around is exhausted
# Children made beyond those that are expected to be known already.
SPARE = 4


class Genetic:
    """A generational search over `population_size` rows; see Evolution for what it promises.

    `epsilon_horizon`: None is feasibility first; a number of generations lets violations through at first, less and less,
    none after 80 % of that many.
    """

    name: ClassVar[str]
    dominance_decides: ClassVar[bool] = False  # between two rows that want to be a parent, before goodness does

    def __init__(self, setup: Setup, *, epsilon_horizon: int | None = None) -> None:
        self.generation = 0
        self.evaluations = 0
        self._setup = setup
        self._size = setup.population_size
        self._rng = generators.made(setup.seed)
        self._epsilon_horizon = epsilon_horizon
        self._epsilon_first = 0.0
        self._weight = duplicates.weights(setup.variables)
        self._spare = 0
        self._asked: F64 | None = None
        self._asked_hash: F64 = np.empty(0)
        self._hash: F64 = np.empty(0)
        self._x: F64 = np.empty((0, setup.variables))
        self._f: F64 = np.empty((0, setup.objectives))
        self._g: F64 = np.empty((0, 0))
        self._h: F64 = np.empty((0, 0))
        self._cv: F64 = np.empty(0)
        self._goodness: F64 | None = None

    # What the algorithms say.

    def _among(self, f: F64, *, need: int) -> tuple[I64, F64 | None]:
        """Which of the feasible rows f (n, m) survive, and how good a parent each then is (smaller is better, None: all alike).

        `need` of them survive, all when there are no more.
        """
        raise NotImplementedError

    # What everybody calls.

    @property
    def population(self) -> Population:
        """Copies of the survivors' rows."""
        return Population(x=self._x.copy(), f=self._f.copy(), g=self._g.copy(), h=self._h.copy(), cv=self._cv.copy())

    def ask(self) -> F64:
        """The first population, then as many children as the population is large, fewer only when no new rows are found."""
        if self._asked is None:
            self._asked, self._asked_hash = self._first() if self.generation == 0 else self._children()
        return self._asked

    def tell(self, *, f: F64, g: F64, h: F64) -> None:
        """Survival among parents and children."""
        told(self._asked, f=f, g=g, h=h, objectives=self._setup.objectives)
        f, cv = constraints.with_failures(f, constraints.violation(g, h))
        if self.generation == 0:
            self._g, self._h = g[:0], h[:0]
            if self._epsilon_horizon is not None:
                self._epsilon_first = constraints.first_allowed(cv)
        self.evaluations += len(f)
        self._take(f, cv=cv, g=g, h=h)
        self._asked = None

    def _take(self, f: F64, *, cv: F64, g: F64, h: F64) -> None:
        self.generation += 1
        f, cv = np.concatenate([self._f, f]), np.concatenate([self._cv, cv])
        rows, self._goodness = self._survivors(f, self._effective(cv))
        self._replace(rows, f=f, cv=cv, g=g, h=h)

    def _survivors(self, f: F64, cv: F64 | None) -> tuple[I64, F64 | None]:
        """Feasible rows first, then those that violate least; as parents in the same order."""
        need = self._size
        if cv is None:
            return self._among(f, need=need)
        feasible, others = np.flatnonzero(cv <= 0.0), np.flatnonzero(cv > 0.0)
        rows, goodness = feasible, np.zeros(len(feasible))
        if len(feasible):
            kept, merit = self._among(f[feasible], need=need)
            rows, goodness = feasible[kept], np.zeros(len(kept)) if merit is None else merit
        others = others[cv[others].argsort(kind="stable")][: need - len(rows)]
        worst = max(goodness.max(), 0.0) + 1.0 if len(rows) else 0.0
        return np.concatenate([rows, others]), np.concatenate([goodness, worst + cv[others]])

    def _compared(self) -> F64:
        """The rows' objectives, NaN where a row is not feasible: violations decide there."""
        cv = self._effective(self._cv)
        return self._f if cv is None else np.where((cv > 0.0)[:, None], np.nan, self._f)

    def _effective(self, cv: F64) -> F64 | None:
        if not cv.any():
            return None
        if self._epsilon_horizon is None:
            return cv
        eased = constraints.allowed(self._epsilon_first, generation=self.generation, horizon=self._epsilon_horizon)
        return np.where(cv <= eased, 0.0, cv)

    def _replace(self, order: I64, *, f: F64, cv: F64, g: F64, h: F64) -> None:
        """The survivors `order`, into the places of those that died; `_goodness` follows them."""
        held, asked = len(self._x), self._asked
        assert asked is not None
        if len(order) != held:
            self._x = np.concatenate([self._x, asked])[order]
            self._hash = np.concatenate([self._hash, self._asked_hash])[order]
            self._g, self._h = np.concatenate([self._g, g])[order], np.concatenate([self._h, h])[order]
            self._f, self._cv = f[order], cv[order]
            return
        stays = ranking.chosen_mask(order, of=len(f))
        died, born = np.flatnonzero(~stays[:held]), np.flatnonzero(stays[held:])
        self._x[died] = asked[born]
        self._hash[died] = self._asked_hash[born]
        self._f[died] = f[born + held]
        self._cv[died] = cv[born + held]
        if g.shape[1]:
            self._g[died] = g[born]
        if h.shape[1]:
            self._h[died] = h[born]
        if self._goodness is not None:
            place = np.arange(len(f))
            place[born + held] = died
            moved = np.empty_like(self._goodness)
            moved[place[order]] = self._goodness
            self._goodness = moved

    def _drawn(self) -> F64:
        x = self._setup.variation.sample(self._size, self._rng)
        if self._setup.start is not None:
            known = self._setup.variation.repair(self._setup.start[: self._size])
            x[: len(known)] = known
        return x

    def _first(self) -> tuple[F64, F64]:
        x = self._drawn()
        hashed = duplicates.hashes(x, self._weight)
        new = duplicates.new_rows(x, hashed=hashed, among=(), among_hashed=())
        return (x, hashed) if new is None else (x[new], hashed[new])

    def _children(self) -> tuple[F64, F64]:
        """New rows and their hashes, `population_size` of them where the refills give so many; at least one, at random."""
        found: list[F64] = []
        hashed: list[F64] = []
        missing, empty = self._size, 0
        # A few more at once cost less than another round; as many as were known already the last time.
        spare, compared = self._spare, self._compared() if self.dominance_decides else None
        for round_ in range(REFILLS):
            first, second = ranking.parents(
                self._goodness, rows=len(self._x), matings=-(-(missing + spare) // 2), rng=self._rng, f=compared
            )
            x = self._setup.variation.children(self._x, first=first, second=second, each=2, rng=self._rng)
            own = duplicates.hashes(x, self._weight)
            new = duplicates.new_rows(x, hashed=own, among=(self._x, *found), among_hashed=(self._hash, *hashed))
            if round_ == 0:
                known = 0 if new is None else len(new) - int(new.sum())
                self._spare = min(known + SPARE, self._size) if known else 0
            if new is not None:
                x, own = _packed(x, own, new=new, most=missing)
            if len(x):
                found.append(x[:missing])
                hashed.append(own[:missing])
                missing -= len(found[-1])
            empty = 0 if len(x) else empty + 1
            if missing == 0 or empty == EMPTY:
                break
            spare = 0
        if len(found) == 1:
            return found[0], hashed[0]
        if found:
            return np.concatenate(found), np.concatenate(hashed)
        x = self._setup.variation.sample(1, self._rng)
        return x, duplicates.hashes(x, self._weight)

    # What survives a kill.

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """See Evolution."""
        if self.generation == 0:
            self.ask()  # the first population is written down, not the rows that it was to begin with
        header = {
            **self._setup.recipe,
            "generation": self.generation,
            "evaluations": self.evaluations,
            "epsilon_first": self._epsilon_first,
            "spare": self._spare,
            "asked": self._asked is not None,
            "ranked": self._goodness is not None,
        }
        arrays: dict[str, Array] = {
            "x": self._x.copy(),
            "f": self._f.copy(),
            "g": self._g.copy(),
            "h": self._h.copy(),
            "cv": self._cv.copy(),
            "rng": generators.packed(self._rng),
        }
        if self._asked is not None:
            arrays["asked"] = self._asked.copy()
        if self._goodness is not None:
            arrays["goodness"] = self._goodness.copy()
        return header, arrays

    def resume(self, header: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
        """Takes up what `state` gave, in an object made with the same options."""
        self.generation = int(header["generation"])
        self.evaluations = int(header["evaluations"])
        self._epsilon_first = float(header["epsilon_first"])
        self._spare = int(header["spare"])
        self._x, self._f = generators.floats(arrays["x"]), generators.floats(arrays["f"])
        self._g, self._h = generators.floats(arrays["g"]), generators.floats(arrays["h"])
        self._cv = generators.floats(arrays["cv"])
        self._hash = duplicates.hashes(self._x, self._weight)
        self._rng = generators.unpacked(arrays["rng"])
        self._asked = generators.floats(arrays["asked"]) if header["asked"] else None
        if self._asked is not None:
            self._asked_hash = duplicates.hashes(self._asked, self._weight)
        self._goodness = generators.floats(arrays["goodness"]) if header["ranked"] else None


def _packed(x: F64, hashed: F64, *, new: Bool, most: int) -> tuple[F64, F64]:
    """At most `most` of the rows that are new, first; only rows that fill a gap are copied. Changes x and hashed."""
    rows = np.flatnonzero(new)
    kept = min(most, len(rows))
    gaps = np.flatnonzero(~new[:kept])
    fill = rows[kept - len(gaps) : kept]
    x[gaps], hashed[gaps] = x[fill], hashed[fill]
    return x[:kept], hashed[:kept]
