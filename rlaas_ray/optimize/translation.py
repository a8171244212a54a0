"""What a pymoo script says of its operators, in the words of our engine: options, or a variation that calls them.

Used by pymoo.py alone. pymoo's own operators of the usual kinds become ours; every other one is called as pymoo calls it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pymoo.core.duplicate import DefaultDuplicateElimination, NoDuplicateElimination
from pymoo.core.population import Population
from pymoo.core.repair import NoRepair
from pymoo.core.variable import get
from pymoo.decomposition.pbi import PBI
from pymoo.decomposition.tchebicheff import Tchebicheff
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.crossover.sbx import SBX, SimulatedBinaryCrossover
from pymoo.operators.crossover.ux import UX, UniformCrossover
from pymoo.operators.mutation.bitflip import BFM, BitflipMutation
from pymoo.operators.mutation.pm import PM, PolynomialMutation
from pymoo.operators.repair.rounding import RoundingRepair
from pymoo.operators.sampling.rnd import BinaryRandomSampling, FloatRandomSampling, IntegerRandomSampling

from rlaas_ray.optimize import mixing, variables
from rlaas_ray.optimize.kernels.variation import Variation
from rlaas_ray.optimize.operators import PymooVariation
from rlaas_ray.specs.arrays import F64

_DRAWN = (FloatRandomSampling, IntegerRandomSampling, BinaryRandomSampling)
_SCALARS: Mapping[type, str] = {PBI: "pbi", Tchebicheff: "tchebycheff"}
_KIND = {"b": "bool", "i": "int", "f": "float", "O": "object", "U": "str"}
_NEAR = 0.9  # of our MOEA/D and pymoo's default: the chance that parents are neighbours


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Recipe:
    """Options for `algorithms.make`, and a variation in place of the engine's own."""

    options: dict[str, Any]
    variation: Variation | None


def usual(name: str, value: Any, *, algorithm: Any) -> bool:
    """Whether an argument says no more than the engine does anyway."""
    if name == "eliminate_duplicates":
        wanted = NoDuplicateElimination if algorithm.engine == "moead" else DefaultDuplicateElimination
        return value is (wanted is DefaultDuplicateElimination) or (
            type(value) is wanted and getattr(value, "epsilon", 1e-16) == 1e-16
        )
    if name == "n_offsprings":
        return bool(value == algorithm.pop_size)
    if name == "prob_neighbor_mating":
        return bool(value == _NEAR)
    if name == "decomposition":
        return type(value) in _SCALARS and getattr(value, "theta", 5) == 5
    return False


def recipe(problem: Any, *, algorithm: Any, told: Mapping[str, Any], engine: str) -> Recipe:
    """Raises InvalidInput or NotBuilt for variables or operators that the engine cannot take."""
    found = variables.of(problem)
    options: dict[str, Any] = {}
    if engine in {"nsga3", "moead"}:
        options["directions"] = np.asarray(algorithm.ref_dirs, dtype=np.float64)
    if engine == "moead":
        options["neighbours"] = int(algorithm.n_neighbors)
        if told.get("decomposition") is not None:
            options["scalar"] = _SCALARS[type(told["decomposition"])]
    crossover, mutation = algorithm.mating.crossover, algorithm.mating.mutation
    repair = None if type(algorithm.repair) is NoRepair else algorithm.repair
    ours = {} if found.permutation else _ours(crossover, mutation, found=found)
    if ours is None or (found.permutation and {"crossover", "mutation"} & set(told)):
        sampling = algorithm.initialization.sampling
        varied = PymooVariation(
            problem=problem,
            variables=found,
            sampling=sampling if callable(sampling) else FloatRandomSampling(),
            crossover=crossover,
            mutation=mutation,
            repairing=repair,
        )
        return Recipe(options=options, variation=varied)
    if repair is None:
        return Recipe(options={**options, **ours}, variation=None)
    inner = mixing.made(problem, crossover=(0.9, 15.0), options=ours)
    fixed = mixing.Repaired(inner=inner, fix=_fix(repair, problem=problem, found=found))
    return Recipe(options=options, variation=fixed)


def misfit(problem: Any, *, algorithm: Any) -> str | None:
    """Why the first rows that the script gives are not what our engine begins with, or None.

    pymoo hands on what was sampled, whatever `vtype` says; our matrix has the type that the problem declares.
    """
    sampling, found = algorithm.initialization.sampling, variables.of(problem)
    if found.names:
        return None
    if type(sampling) in _DRAWN:
        drawn = {BinaryRandomSampling: "b", IntegerRandomSampling: "i"}.get(type(sampling), "f")
    else:
        rng = copy.deepcopy(algorithm.random_state)
        rows = algorithm.initialization.do(problem, algorithm.pop_size, algorithm=algorithm, random_state=rng)
        if len(rows) > algorithm.pop_size:
            return f"{len(rows)} first rows for a population of {algorithm.pop_size}"
        drawn = rows.get("X").dtype.kind
    declared = np.dtype(found.dtype).kind
    if drawn in {"f", declared}:
        return None
    return f"rows of {_KIND.get(drawn, drawn)} for a problem whose vtype says {_KIND[declared]}"


def start(algorithm: Any) -> F64 | None:
    """The first rows, where the script says which."""
    sampling = algorithm.initialization.sampling
    if type(sampling) in _DRAWN:
        return None
    found = algorithm.initialization.do(
        algorithm.problem, algorithm.pop_size, algorithm=algorithm, random_state=algorithm.random_state
    )
    return variables.of(algorithm.problem).encode([one.X for one in found])


def _ours(crossover: Any, mutation: Any, *, found: variables.Variables) -> dict[str, Any] | None:
    """Options that mean the same, or None."""
    if type(crossover) in {SBX, SimulatedBinaryCrossover} and type(mutation) in {PM, PolynomialMutation}:
        return _real(crossover, mutation, rounds=not found.plain)
    exchange = {TwoPointCrossover: "two_point", UX: "uniform", UniformCrossover: "uniform"}.get(type(crossover))
    flips = type(mutation) in {BFM, BitflipMutation}
    if exchange is None or not flips or not (found.kind == variables.BINARY).all():
        return None
    return {
        "exchange": exchange,
        "crossover_probability": float(get(crossover.prob)),
        "mutation_probability": float(get(mutation.prob)),
        **_each(mutation),
    }


def _real(crossover: Any, mutation: Any, *, rounds: bool) -> dict[str, Any] | None:
    exact = (
        float(get(crossover.prob_var)) == 0.5
        and float(get(crossover.prob_exch)) == 1.0
        and float(get(crossover.prob_bin)) == 0.5
        and not mutation.at_least_once
    )
    for one in (crossover, mutation):
        exact = exact and (one.repair is None or (rounds and type(one.repair) is RoundingRepair))
    if not exact:
        return None
    return {
        "crossover_probability": float(get(crossover.prob)),
        "crossover_eta": float(get(crossover.eta)),
        "mutation_probability": float(get(mutation.prob)),
        "mutation_eta": float(get(mutation.eta)),
        **_each(mutation),
    }


def _each(mutation: Any) -> dict[str, float]:
    return {} if mutation.prob_var is None else {"variable_probability": float(get(mutation.prob_var))}


def _fix(repair: Any, *, problem: Any, found: variables.Variables) -> Callable[[F64], F64]:
    def fixed(x: F64) -> F64:
        population = Population.empty(len(x))
        population.set(X=found.decode(x))
        # A repair that draws draws the same for the same rows.
        mended = repair(problem, population, random_state=np.random.default_rng(0))
        return found.encode([one.X for one in mended])

    return fixed
