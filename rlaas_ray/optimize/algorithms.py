"""The algorithms by name, and how a search that was written down is taken up again.

Called by search.py and by tests. Turns a pymoo problem, a name and options into an Evolution; never runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.optimize import library, mixing, variables
from rlaas_ray.optimize.evolution import Evolution, Setup
from rlaas_ray.optimize.genetic import Genetic
from rlaas_ray.optimize.kernels.variation import Variation
from rlaas_ray.optimize.moead import Moead
from rlaas_ray.optimize.nsga2 import Nsga2
from rlaas_ray.optimize.nsga3 import Nsga3
from rlaas_ray.optimize.spea2 import Spea2
from rlaas_ray.specs.arrays import F64, Array

# Written into every state; a state of another format is refused.
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A class, its SBX as in pymoo (chance of a mating to cross, eta), and the options that it takes."""

    make: type[Genetic]
    crossover: tuple[float, float]
    options: tuple[str, ...] = ("epsilon_horizon",)


_KINDS: Mapping[str, _Kind] = {
    "nsga2": _Kind(make=Nsga2, crossover=(0.9, 15.0)),
    "nsga3": _Kind(make=Nsga3, crossover=(1.0, 30.0), options=("directions", "epsilon_horizon")),
    "moead": _Kind(
        make=Moead,
        crossover=(1.0, 20.0),
        options=("directions", "neighbours", "batches", "scalar", "replaced_at_most", "epsilon_horizon"),
    ),
    "spea2": _Kind(make=Spea2, crossover=(0.9, 15.0)),
}
# Beside ours, those that pymoo runs.
NAMES = (*_KINDS, *library.NAMES)


def make(
    name: str,
    *,
    problem: Any,
    population_size: int,
    seed: int,
    start: F64 | None = None,
    options: Mapping[str, Any] | None = None,
    variation: Variation | None = None,
) -> Evolution:
    """A search that has evaluated nothing yet.

    `problem` is a pymoo Problem with bounds; `start` (k, d) are rows of the first population, clipped, the others are
    drawn; more than `population_size` are dropped. `variation`: for one of ours, in place of what the variables suggest; it is
    not written down with the state. Raises NotFound for a name, InvalidInput for an option it does not take.
    """
    if name not in NAMES:
        raise NotFound(f"no algorithm {name!r}", given=name, expected=", ".join(NAMES), cure=nearest(name, list(NAMES)))
    # Plain values, so that the recipe can be written down.
    given = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in (options or {}).items()}
    known = options_of(name)
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidInput(
            f"options of {name}", given=unknown, expected=", ".join(known), cure=nearest(unknown[0], list(known))
        )
    if population_size < 2:
        raise InvalidInput("population_size", given=population_size, expected="at least 2")
    recipe = _recipe(name, problem=problem, population_size=population_size, options=given)
    if name in library.NAMES:
        return library.make(name, problem=problem, start=start, recipe={**recipe, "seed": seed})
    return _genetic(problem, recipe=recipe, seed=seed, start=start, variation=variation)


def options_of(name: str) -> tuple[str, ...]:
    """The options that an algorithm of NAMES takes."""
    return library.options(name) if name in library.NAMES else (*_KINDS[name].options, *mixing.OPTIONS)


def automatic(problem: Any) -> str:
    """What "auto" means for a problem: by its objectives, and for a single one by what CMA-ES can vary."""
    objectives = int(problem.n_obj)
    if objectives == 1:
        rough = bool(problem.n_ieq_constr or problem.n_eq_constr) or not variables.of(problem).plain
        return "ga" if rough or hasattr(problem, "repair") else "cmaes"
    return "nsga2" if objectives == 2 else "nsga3"


def restore(header: Mapping[str, Any], arrays: Mapping[str, Array], *, problem: Any) -> Evolution:
    """The search that `Evolution.state` wrote down, on the same problem: its next rows are the ones it would have asked.

    Raises InvalidInput for another format, or a problem with other variables or objectives.
    """
    shape = {"format": FORMAT, "variables": int(problem.n_var), "objectives": int(problem.n_obj)}
    written = {key: header.get(key) for key in shape}
    if written != shape or header.get("algorithm") not in NAMES:
        raise InvalidInput(
            "state of a search",
            given={**written, "algorithm": header.get("algorithm")},
            expected=f"{shape} and an algorithm of {', '.join(NAMES)}",
            cure="Resume with the problem that the search was begun with, or begin anew.",
        )
    if header["algorithm"] in library.NAMES:
        return library.restore(header, arrays, problem=problem)
    recipe = _recipe(
        header["algorithm"],
        problem=problem,
        population_size=int(header["population_size"]),
        options=dict(header["options"]),
    )
    found = _genetic(problem, recipe=recipe, seed=0, start=None, variation=None)
    found.resume(header, arrays)
    return found


def _recipe(name: str, *, problem: Any, population_size: int, options: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "algorithm": name,
        "population_size": population_size,
        "options": options,
        "variables": int(problem.n_var),
        "objectives": int(problem.n_obj),
    }


def _genetic(
    problem: Any, *, recipe: dict[str, Any], seed: int, start: F64 | None, variation: Variation | None
) -> Genetic:
    kind, options = _KINDS[recipe["algorithm"]], recipe["options"]
    setup = Setup(
        variation=variation or mixing.made(problem, crossover=kind.crossover, options=options),
        variables=recipe["variables"],
        objectives=recipe["objectives"],
        population_size=recipe["population_size"],
        seed=seed,
        start=start,
        recipe=recipe,
    )
    return kind.make(setup, **{key: value for key, value in options.items() if key in kind.options})
