"""NSGA2, NSGA3, MOEAD, SPEA2 for scripts written for pymoo: one import changed, the rest as it was.

    from rlaas_ray.optimize.pymoo import NSGA2

Each is pymoo's own class (arguments, callbacks, terminations, history, ask and tell) with our engine inside. What the engine has
not (another selection or survival, a mating of one's own) runs as pymoo runs it: `why_not` then says what it was.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np
from pymoo.algorithms.moo import moead, nsga2, nsga3, spea2
from pymoo.core.algorithm import Algorithm
from pymoo.core.evaluator import Evaluator
from pymoo.core.population import Population

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.optimize import algorithms, evaluation, evolution, translation, variables
from rlaas_ray.optimize.kernels import ranking
from rlaas_ray.specs.arrays import F64

# What these arguments say the engine does, or leaves to pymoo's Algorithm.
_FREE = {
    "pop_size", "ref_dirs", "sampling", "crossover", "mutation", "repair", "n_neighbors", "termination", "output", "display",
    "callback", "archive", "return_least_infeasible", "save_history", "verbose", "seed", "evaluator",
}  # fmt: skip


class _Fast(Algorithm):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """Mixed in before one of pymoo's algorithms. `pop`, `opt` and `off` are built when they are asked for."""

    engine: ClassVar[str]
    is_initialized: bool
    _pop: Any
    _opt: Any
    _off: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(super().__init__).bind(*args, **kwargs).arguments
        self._told = {**{k: v for k, v in bound.items() if k != "kwargs"}, **bound.get("kwargs", {})}
        self._evolution: evolution.Evolution | None = None
        self._variables: variables.Variables | None = None
        self._values: tuple[F64, F64, F64, F64] | None = None
        self.why_not: str | None = None
        super().__init__(*args, **kwargs)

    @property
    def accelerated(self) -> bool:
        """Whether our engine runs it; known once it is set up."""
        return self._variables is not None

    @property
    def pop(self) -> Any:
        """The survivors, as pymoo's Population."""
        if self._pop is None and self._evolution is not None:
            self._pop = self._survivors(self._evolution.population)
        return self._pop

    @pop.setter
    def pop(self, given: Any) -> None:
        self._pop = given

    @property
    def opt(self) -> Any:
        """The non-dominated feasible ones, or the least infeasible one where none is feasible."""
        if self._opt is None and self._evolution is not None and self.is_initialized:
            pop = self.pop
            cv = pop.get("CV")[:, 0]
            self._opt = pop[pop.get("rank") == 0] if (cv <= 0).any() else pop[[int(np.argmin(cv))]]
        return self._opt

    @opt.setter
    def opt(self, given: Any) -> None:
        self._opt = given

    @property
    def off(self) -> Any:
        """The rows of the last generation."""
        if self._off is None and self._values is not None:
            x, f, g, h = self._values
            self._off = self._made(x, f=f, g=g, h=h)
        return self._off

    @off.setter
    def off(self, given: Any) -> None:
        self._off = given

    def next(self) -> None:
        """A generation, without an Individual where nobody looks at one."""
        if self._variables is None or not self._unwatched():
            super().next()
            return
        if not self.is_initialized:
            self._initialize()
        x = self._asked()
        values = evaluation.evaluate(self.problem, x)
        self.evaluator.n_eval += len(x)
        self._values, self._off = (x, *values), None
        self._tell(values)
        self.is_initialized = True
        self._post_advance()
        if self.termination.has_terminated():
            self.finalize()

    def _setup(self, problem: Any, **kwargs: Any) -> None:
        self._evolution = self._variables = None
        self.why_not = self._unfit(problem)
        if self.why_not is None:
            self._variables = variables.of(problem)
        else:
            super()._setup(problem, **kwargs)

    def _unfit(self, problem: Any) -> str | None:
        """What of the arguments our engine has not, or None."""
        given = {name for name, value in self._told.items() if value is not None} - _FREE
        for name in sorted(given):
            if not translation.usual(name, self._told[name], algorithm=self):
                return f"{name}={self._told[name]!r}"
        try:
            self._recipe(problem)
            return translation.misfit(problem, algorithm=self)
        except (InvalidInput, NotBuilt) as error:
            return str(error)

    def _recipe(self, problem: Any) -> translation.Recipe:
        return translation.recipe(problem, algorithm=self, told=self._told, engine=self.engine)

    def _asked(self) -> F64:
        if self._evolution is None:
            recipe = self._recipe(self.problem)
            self._evolution = algorithms.make(
                self.engine,
                problem=self.problem,
                population_size=int(self.pop_size),
                seed=int(self.random_state.integers(2**31)),
                start=translation.start(self),
                options=recipe.options,
                variation=recipe.variation,
            )
        return self._evolution.ask()

    def _tell(self, values: tuple[F64, F64, F64]) -> None:
        assert self._evolution is not None
        f, g, h = values
        self._evolution.tell(f=f, g=g, h=h)
        self._pop = self._opt = None

    def _unwatched(self) -> bool:
        """Whether nobody is to see the rows before or while they are evaluated."""
        plain = type(self.evaluator) is Evaluator and self.evaluator.callback is None
        return plain and self.archive is None and not self.problem.requires_kwargs and not self._known()

    def _known(self) -> bool:
        """Whether a first population comes with values that need not be computed again."""
        sampling = self._told.get("sampling")
        return not self.is_initialized and isinstance(sampling, Population)

    # pymoo's way through a generation: for ask and tell, and for evaluators of one's own.

    def _initialize_infill(self) -> Any:
        return self._infill() if self._variables is not None else super()._initialize_infill()

    def _infill(self) -> Any:
        if self._variables is None:
            return super()._infill()
        made = self._made(self._asked())
        if self._known():
            known = {row.tobytes(): one for row, one in self._rows(self._told["sampling"])}
            for k, (row, _) in enumerate(self._rows(made)):
                made[k] = known.get(row.tobytes(), made[k])
        return made

    def _rows(self, population: Any) -> list[tuple[F64, Any]]:
        assert self._variables is not None
        return list(zip(self._variables.encode([one.X for one in population]), population, strict=True))

    def _initialize_advance(self, infills: Any = None, **kwargs: Any) -> None:
        if self._variables is None:
            super()._initialize_advance(infills=infills, **kwargs)
        else:
            self._advance(infills=infills)

    def _advance(self, infills: Any = None, **kwargs: Any) -> Any:
        if self._variables is None:
            return super()._advance(infills=infills, **kwargs)
        x = self._asked()
        if infills is None or not np.array_equal(self._variables.encode([one.X for one in infills]), x):
            raise InvalidInput(
                "what was told",
                given=f"{0 if infills is None else len(infills)} rows",
                expected=f"the {len(x)} rows that were asked, in their order",
                cure="Tell the Population that ask() gave. Rows that failed keep their place, with F = infinity.",
            )
        f, g, h = infills.get("F", "G", "H")
        rows = len(x)
        self._tell(
            (
                np.asarray(f, dtype=np.float64).reshape(rows, -1),
                np.asarray(g, dtype=np.float64).reshape(rows, -1),
                np.asarray(h, dtype=np.float64).reshape(rows, -1),
            )
        )
        return None

    def _set_optimum(self, **kwargs: Any) -> None:
        if self._variables is None:
            super()._set_optimum(**kwargs)
        else:
            self._opt = None

    def _made(self, x: F64, **values: F64) -> Any:
        assert self._variables is not None
        population = Population.empty(len(x))
        population.set(X=self._variables.decode(x), **{name.upper(): one for name, one in values.items()})
        if values:
            population.apply(lambda one: one.evaluated.update({"F", "G", "H"}))
        return population

    def _survivors(self, held: evolution.Population) -> Any:
        found = self._made(held.x, f=held.f, g=held.g, h=held.h)
        feasible = held.cv <= 0.0
        rank = np.zeros(len(held.f), dtype=np.int64)
        rank[feasible] = ranking.ranks(held.f[feasible])
        behind = np.unique(held.cv[~feasible], return_inverse=True)[1]
        rank[~feasible] = behind + (int(rank.max()) + 1 if feasible.any() else 0)
        found.set("rank", rank, "crowding", ranking.crowding(held.f, rank=rank))
        return found


class NSGA2(_Fast, nsga2.NSGA2):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """As pymoo's, with our NSGA-II inside."""

    engine = "nsga2"


class NSGA3(_Fast, nsga3.NSGA3):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """As pymoo's, with our NSGA-III inside."""

    engine = "nsga3"


class MOEAD(_Fast, moead.MOEAD):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """As pymoo's, with our MOEA/D inside; constraints are allowed."""

    engine = "moead"


class SPEA2(_Fast, spea2.SPEA2):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """As pymoo's, with our SPEA2 inside."""

    engine = "spea2"
