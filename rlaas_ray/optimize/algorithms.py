"""The algorithms by name, and how a search that was written down is taken up again.

Called by search.py and by tests. Turns a pymoo problem, a name and options into an Evolution; never runs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.optimize.evolution import Evolution, Setup, bounds
from rlaas_ray.optimize.genetic import Genetic
from rlaas_ray.optimize.kernels.variation import RealVariation
from rlaas_ray.optimize.nsga2 import Nsga2
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
}
NAMES = tuple(_KINDS)


def make(
    name: str,
    *,
    problem: Any,
    population_size: int,
    seed: int,
    start: F64 | None = None,
    options: Mapping[str, Any] | None = None,
) -> Evolution:
    """A search that has evaluated nothing yet.

    `problem` is a pymoo Problem with bounds; `start` (k, d) are rows of the first population, clipped, the others are
    drawn; more than `population_size` are dropped. Raises NotFound for a name, InvalidInput for an option it does not take.
    """
    if name not in NAMES:
        raise NotFound(f"no algorithm {name!r}", given=name, expected=", ".join(NAMES), cure=nearest(name, list(NAMES)))
    chosen = name
    given = dict(options or {})
    known = _KINDS[chosen].options
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidInput(
            f"options of {chosen}", given=unknown, expected=", ".join(known), cure=nearest(unknown[0], list(known))
        )
    if population_size < 2:
        raise InvalidInput("population_size", given=population_size, expected="at least 2")
    return _built(chosen, problem=problem, population_size=population_size, seed=seed, start=start, options=given)


def restore(header: Mapping[str, Any], arrays: Mapping[str, Array], *, problem: Any) -> Evolution:
    """The search that `Evolution.state` wrote down, on the same problem: its next rows are the ones it would have asked.

    Raises InvalidInput for another format, or a problem with other variables or objectives.
    """
    shape = {"format": FORMAT, "variables": int(problem.n_var), "objectives": int(problem.n_obj)}
    written = {key: header.get(key) for key in shape}
    if written != shape or header.get("algorithm") not in _KINDS:
        raise InvalidInput(
            "state of a search",
            given={**written, "algorithm": header.get("algorithm")},
            expected=f"{shape} and an algorithm of {', '.join(_KINDS)}",
            cure="Resume with the problem that the search was begun with, or begin anew.",
        )
    found = _built(
        header["algorithm"],
        problem=problem,
        population_size=int(header["population_size"]),
        seed=0,
        start=None,
        options=dict(header["options"]),
    )
    found.resume(header, arrays)
    return found


def _built(
    name: str, *, problem: Any, population_size: int, seed: int, start: F64 | None, options: dict[str, Any]
) -> Genetic:
    low, high = bounds(problem)
    kind = _KINDS[name]
    chance, eta = kind.crossover
    recipe = {
        "format": FORMAT,
        "algorithm": name,
        "population_size": population_size,
        "options": options,
        "variables": len(low),
        "objectives": int(problem.n_obj),
    }
    setup = Setup(
        variation=RealVariation(low=low, high=high, crossover=chance, crossover_eta=eta),
        variables=len(low),
        objectives=int(problem.n_obj),
        population_size=population_size,
        seed=seed,
        start=start,
        recipe=recipe,
    )
    return kind.make(setup, **options)
