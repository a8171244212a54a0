"""Further algorithms, run by pymoo and asked and told like our own: SMS-EMOA, AGE-MOEA, RVEA, U-NSGA-III, C-TAEA, GA, CMA-ES.

Made by algorithms.py. Variables of every kind vary by our operators, on a problem of plain columns. pymoo's state is not
written down: all values told are, and resuming asks and tells them again, so that the next rows are the same bits.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.termination.max_gen import MaximumGenerationTermination

from rlaas_ray.errors import Conflict, InvalidInput, NotBuilt
from rlaas_ray.optimize import mixing, operators, variables
from rlaas_ray.optimize.evolution import Population, told
from rlaas_ray.optimize.kernels import directions
from rlaas_ray.optimize.kernels.variation import Variation
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

_HUGE = 1e30  # the violation of a row whose evaluation failed
_SIGMA = 0.3  # of CMA-ES, of the width of the bounds (Hansen 2016: a third)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Given:
    """What an algorithm is built from."""

    problem: Any  # of plain columns
    size: int
    seed: int
    start: F64 | None
    variation: Variation
    real: bool  # all variables are
    options: Mapping[str, Any]

    def operators(self, *, each: int = 2) -> dict[str, Any]:
        return {
            "sampling": operators.VariedSampling(self.variation, start=self.start),
            "crossover": operators.VariedCrossover(self.variation, each=each),
            "mutation": operators.NoMutation(),
        }

    def directions(self) -> F64:
        return directions.fitting(int(self.problem.n_obj), population_size=self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """Where pymoo has it, its arguments; SBX as pymoo's own has it (chance, eta); options beside those of the variation."""

    where: str  # module:class, loaded when it is asked for: cma alone takes a second
    arguments: Callable[[_Given], dict[str, Any]]
    crossover: tuple[float, float] = (0.9, 15.0)
    options: tuple[str, ...] = ()
    single: bool = False

    def build(self, given: _Given) -> Any:
        """The algorithm, not set up. Raises NotBuilt where pymoo lacks what it needs."""
        module, _, name = self.where.partition(":")
        try:
            found = importlib.import_module(f"pymoo.algorithms.{module}")
        except Exception as error:  # pymoo raises a bare Exception
            if "numba" not in str(error):
                raise
            raise NotBuilt(
                f"pymoo's {name} without numba",
                given=str(error),
                expected="numba",
                cure="pip install 'rlaas-ray[agemoea]', or take smsemoa.",
            ) from error
        return getattr(found, name)(**self.arguments(given))


def _plain(given: _Given) -> dict[str, Any]:
    return {"pop_size": given.size, **given.operators()}


def _directed(given: _Given) -> dict[str, Any]:
    return {"ref_dirs": given.directions(), **_plain(given)}


def _cmaes(given: _Given) -> dict[str, Any]:
    if given.problem.n_constr or not given.real:
        raise InvalidInput(
            "a problem for cmaes",
            given=f"{given.problem.n_constr} constraints",
            expected="real variables and no constraints",
            cure="Use ga.",
        )
    # Its own generator: cma's default is NumPy's global one, which all searches of a process would share.
    rng = np.random.default_rng(np.random.SeedSequence((given.seed, 1)))
    quiet = {"verbose": -9, "verb_log": 0, "signals_filename": "", "popsize": max(4, given.size), "seed": np.nan}
    return {
        "sigma": float(given.options.get("sigma", _SIGMA)),
        "opts": {**quiet, "randn": lambda *shape: rng.standard_normal(shape)},
        "sampling": operators.VariedSampling(given.variation, start=given.start),
    }


def _nearer_one(population: Any, pairs: I64, *, random_state: np.random.Generator, **_: Any) -> I64:
    """The tournament of U-NSGA-III (Seada & Deb 2016): pairs (k, 2) -> winners (k, 1).

    In place of pymoo 0.6.2's, whose coin between equal violations is not seeded.
    """
    cv, niche, rank, off = (
        np.array(population.get(key), dtype=np.float64).reshape(-1) for key in ("CV", "niche", "rank", "dist_to_niche")
    )
    a, b = pairs.T
    violated = (cv[a] > 0.0) | (cv[b] > 0.0)
    same, equal = ~violated & (niche[a] == niche[b]), rank[a] == rank[b]
    first = (violated & (cv[a] < cv[b])) | (same & ((rank[a] < rank[b]) | (equal & (off[a] < off[b]))))
    second = (violated & (cv[b] < cv[a])) | (same & ((rank[b] < rank[a]) | (equal & (off[b] < off[a]))))
    drawn = np.where(random_state.random(len(pairs)) < 0.5, a, b)
    won: I64 = np.where(first, a, np.where(second, b, drawn))
    return won[:, None]


_KINDS: Mapping[str, _Kind] = {
    "agemoea": _Kind(where="moo.age:AGEMOEA", arguments=_plain),
    "agemoea2": _Kind(where="moo.age2:AGEMOEA2", arguments=_plain),
    "cmaes": _Kind(where="soo.nonconvex.cmaes:SimpleCMAES", arguments=_cmaes, options=("sigma",), single=True),
    "ctaea": _Kind(
        where="moo.ctaea:CTAEA",
        arguments=lambda given: {"ref_dirs": given.directions(), **given.operators(each=1)},
        crossover=(1.0, 30.0),
    ),
    "ga": _Kind(where="soo.nonconvex.ga:GA", arguments=_plain, single=True),
    "rvea": _Kind(where="moo.rvea:RVEA", arguments=_directed, crossover=(1.0, 30.0), options=("generations",)),
    "smsemoa": _Kind(
        where="moo.sms:SMSEMOA",
        arguments=lambda given: {**_plain(given), "n_offsprings": int(given.options.get("offspring", given.size))},
        options=("offspring",),
    ),
    "unsga3": _Kind(
        where="moo.unsga3:UNSGA3",
        arguments=lambda given: {**_directed(given), "selection": TournamentSelection(func_comp=_nearer_one)},
        crossover=(1.0, 30.0),
    ),
}
NAMES = tuple(_KINDS)


def options(name: str) -> tuple[str, ...]:
    """The options that one takes."""
    return (*mixing.OPTIONS, *_KINDS[name].options)


class Library:
    """An Evolution over one of pymoo's algorithms. An `ask` of no rows: it has converged, or no new rows are to be found."""

    def __init__(self, kind: str, *, problem: Any, recipe: Mapping[str, Any], start: F64 | None) -> None:
        known = _KINDS[kind]
        if known.single != (int(problem.n_obj) == 1):
            raise InvalidInput(
                f"objectives for {kind}",
                given=int(problem.n_obj),
                expected="one" if known.single else "two or more",
                cure="ga and cmaes search one objective, the others two or more.",
            )
        self.name = kind
        self.generation = 0
        self.evaluations = 0
        self._recipe, self._start = dict(recipe), start
        self._objectives = int(problem.n_obj)
        seed, chosen = int(recipe["seed"]), dict(recipe["options"])
        given = _Given(
            problem=_columns(problem),
            size=int(recipe["population_size"]),
            seed=seed,
            start=start,
            variation=mixing.made(problem, crossover=known.crossover, options=chosen),
            real=not variables.of(problem).whole.any(),
            options=chosen,
        )
        self._algorithm = known.build(given)
        self._algorithm.setup(given.problem, termination=_end(kind, chosen), seed=seed, verbose=False)
        if kind == "cmaes":
            self._algorithm.opts["seed"] = np.nan  # pymoo's set-up would seed NumPy's global generator
        self._asked: Any = None
        self._record: list[tuple[F64, F64, F64, F64]] = []

    @property
    def population(self) -> Population:
        """The survivors of the last generation."""
        kept = self._algorithm.pop
        if kept is None or not len(kept):
            empty: F64 = np.empty((0, 0))
            return Population(x=empty, f=empty, g=empty, h=empty, cv=np.empty(0))
        x, f, g, h, cv = (np.asarray(one, dtype=np.float64) for one in kept.get("X", "F", "G", "H", "CV"))
        return Population(x=x, f=f, g=g, h=h, cv=cv[:, 0])

    def ask(self) -> F64:
        """See Evolution."""
        if self._asked is None:
            ended = self._algorithm.termination.force_termination
            found = None if ended else self._algorithm.infill()
            self._asked = found if found is not None else ()
            self._check_first()
        if not len(self._asked):
            return np.empty((0, int(self._algorithm.problem.n_var)))
        return np.asarray(self._asked.get("X"), dtype=np.float64)

    def _check_first(self) -> None:
        """C-TAEA fills its archive by direction, and would look for ever where there are fewer rows than directions."""
        rows = len(self._asked)
        if self.name == "ctaea" and self.generation == 0 and rows < self._algorithm.pop_size:
            raise InvalidInput(
                "the first population of ctaea",
                given=f"{rows} different rows",
                expected=f"{self._algorithm.pop_size}, one for each direction",
                cure="Use nsga3, or a population no larger than there are solutions.",
            )

    def tell(self, *, f: F64, g: F64, h: F64) -> None:
        """See Evolution."""
        x = None if self._asked is None else self.ask()
        told(x, f=f, g=g, h=h, objectives=self._objectives)
        assert x is not None
        asked, self._asked = self._asked, None
        if not len(asked):
            return
        self._record.append((x, f.copy(), g.copy(), h.copy()))
        unknown = np.isnan(g).any(axis=1) | np.isnan(h).any(axis=1)
        failed: Bool = np.asarray(~np.isfinite(f).all(axis=1) | unknown)
        asked.set("F", _settled(f, failed=failed), "G", g, "H", h)
        for row, one in enumerate(asked):
            one.evaluated.update({"F", "G", "H"})
            if failed[row]:
                one.CV = np.array([_HUGE])
        self.generation += 1
        self.evaluations += len(asked)
        self._algorithm.advance(infills=asked)

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Every value told, in order; `ask` draws the rows that were asked last again."""
        sizes = np.array([len(x) for x, *_ in self._record], dtype=np.int64)
        header = {**self._recipe, "generation": self.generation, "evaluations": self.evaluations}
        arrays: dict[str, Array] = {"sizes": sizes}
        for k, name in enumerate("xfgh"):
            if self._record:
                arrays[name] = np.concatenate([one[k] for one in self._record])
        if self._start is not None:
            arrays["start"] = self._start
        return header, arrays

    def replay(self, arrays: Mapping[str, Array]) -> None:
        """Tell again what was told. Raises Conflict where other rows are asked than were written down."""
        at = np.concatenate([[0], np.cumsum(arrays["sizes"])]).astype(np.int64)
        for first, last in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
            x, f, g, h = (np.asarray(arrays[name][first:last], dtype=np.float64) for name in "xfgh")
            if not np.array_equal(self.ask(), x):
                raise Conflict(
                    f"{self.name} cannot be taken up: it asks for other rows than it did",
                    given=f"generation {self.generation + 1}",
                    expected="the rows that were written down",
                    cure="Resume with the versions of pymoo and NumPy that it was begun with, or begin anew from its front.",
                )
            self.tell(f=f, g=g, h=h)


def make(name: str, *, problem: Any, start: F64 | None, recipe: Mapping[str, Any]) -> Library:
    """One that has evaluated nothing yet; `recipe` holds population_size, seed and options."""
    return Library(name, problem=problem, recipe=recipe, start=start)


def restore(header: Mapping[str, Any], arrays: Mapping[str, Array], *, problem: Any) -> Library:
    """The one whose state was written down."""
    start = np.asarray(arrays["start"], dtype=np.float64) if "start" in arrays else None
    recipe = {key: value for key, value in header.items() if key not in {"generation", "evaluations"}}
    found = Library(str(header["algorithm"]), problem=problem, recipe=recipe, start=start)
    found.replay(arrays)
    return found


def _end(kind: str, chosen: Mapping[str, Any]) -> Any:
    """The search ends it; RVEA alone must know beforehand how long it has."""
    if kind != "rvea":
        return NoTermination()
    generations = chosen.get("generations")
    if not isinstance(generations, int) or generations < 1:
        raise InvalidInput(
            "options of rvea",
            given=generations,
            expected="generations: how many there will be",
            cure="It adapts its directions ten times on the way; give the same number as the search.",
        )
    return MaximumGenerationTermination(generations)


def _columns(problem: Any) -> Any:
    """The problem as pymoo's operators see it: plain columns, never evaluated."""
    found = variables.of(problem)
    return Problem(
        n_var=len(found.low),
        n_obj=int(problem.n_obj),
        n_ieq_constr=int(problem.n_ieq_constr),
        n_eq_constr=int(problem.n_eq_constr),
        xl=found.low,
        xu=found.high,
    )


def _settled(f: F64, *, failed: Bool) -> F64:
    """Failed rows as bad as the worst of the others; their violation keeps them out."""
    if not failed.any():
        return f
    good = f[~failed]
    worst = good.max(axis=0) if len(good) else np.zeros(f.shape[1])
    return np.where(failed[:, None], worst, f)
