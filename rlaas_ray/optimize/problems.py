"""What a search is given: a pymoo problem with the names of its objectives, its box, its anchors and the final weights.

Called by search.run. `KNOWN` are ours and those of the literature; `module:Class` is any pymoo Problem, which may say more
about itself by the attributes that `envs/recommendation/problem.py` has (`objectives, box, anchors, weights, warm_start`). Never
evaluates a point.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pymoo.core.problem import Problem

from rlaas_ray.envs import catalogue
from rlaas_ray.envs.edge import problem as edge
from rlaas_ray.envs.ran import problem as ran
from rlaas_ray.envs.ran import problem_tiny as ran_tiny
from rlaas_ray.envs.recommendation import problem as recommendation
from rlaas_ray.envs.stream import problem as stream
from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.optimize import benchmarks
from rlaas_ray.specs.arrays import F64, Bool
from rlaas_ray.specs.optimize import OptimizeSpec


def _policy_search(**config: Any) -> Any:
    # Found late: it needs all of policies, and every search would wait for that.
    return catalogue.load("rlaas_ray.optimize.policy_search:PolicyProblem")(**config)


KNOWN: Mapping[str, Callable[..., Any]] = {
    "5g": ran.RanPowerProblem,
    "5g_tiny": ran_tiny.RanTinyProblem,
    "edge_placement": edge.EdgeStaticProblem,
    "policy_search": _policy_search,
    "recommendation": recommendation.SlateProblem,
    "stream_parallelism": stream.StreamStaticProblem,
    **benchmarks.PROBLEMS,
}
_ANY_MODE = "normal"  # the spec's default

# name, unit, direction: the form of `metadata["objectives"]` of an env
Objective = tuple[str, str, Literal["min", "max"]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is searched. `problem` minimises, as pymoo does; columns whose direction is "max" come out of it negated.

    `box` is (ideal, nadir) in the problem's own minimised units, for a hypervolume that means the same in every run.
    """

    problem: Any
    objectives: tuple[Objective, ...]
    weight: F64  # (m,)
    box: tuple[F64, F64] | None
    anchors: Mapping[str, F64]  # name -> (d,)
    warm_start: bool = False  # the search begins with the anchors

    @property
    def minimise(self) -> Bool:
        """(m,) True where the natural direction is "min"."""
        return np.array([direction == "min" for _, _, direction in self.objectives], dtype=np.bool_)

    @property
    def sign(self) -> F64:
        """(m,) natural = sign * minimised."""
        return np.where(self.minimise, 1.0, -1.0)


def resolve(spec: OptimizeSpec) -> Subject:
    """The subject that a spec names. Raises NotFound or InvalidInput with the cure."""
    kind = KNOWN.get(spec.problem) or _imported(spec.problem)
    moded = hasattr(kind, "MODES")
    if not moded and spec.mode != _ANY_MODE:
        raise InvalidInput(
            f"problem {spec.problem!r} has no modes",
            given=spec.mode,
            expected="no mode",
            cure="Give weights.",
            pointer="/mode",
        )
    config = {**spec.problem_config, "mode": spec.mode} if moded else dict(spec.problem_config)
    try:
        problem = kind(**config)
    except TypeError as error:
        raise InvalidInput(
            f"problem {spec.problem!r} does not take this problem_config",
            given=sorted(config),
            expected=str(error),
            pointer="/problem_config",
        ) from None
    if not isinstance(problem, Problem):
        raise InvalidInput(
            f"{spec.problem!r} is not a problem", given=type(problem).__name__, expected="a subclass of pymoo's Problem"
        )
    if spec.problem in benchmarks.PROBLEMS:
        _check_swallowed(spec, problem)
        problem.box = benchmarks.box(spec.problem, objectives=int(problem.n_obj))
    return describe(problem, weights=spec.weights)


def _check_swallowed(spec: OptimizeSpec, problem: Any) -> None:
    """A Problem of pymoo takes any argument and keeps what nobody uses: a misspelt size would be the default one."""
    unknown = sorted(set(problem.data) & set(spec.problem_config))
    if unknown:
        names = ["n_var", "n_obj", "k", "l"]
        raise InvalidInput(
            f"problem {spec.problem!r} does not take this problem_config",
            given=unknown,
            expected="n_var, n_obj; WFG k and l too",
            cure=nearest(unknown[0], names),
            pointer=f"/problem_config/{unknown[0]}",
        )


def _imported(name: str) -> Callable[..., Any]:
    module, colon, attribute = name.partition(":")
    if not colon:
        raise NotFound(
            f"no problem {name!r}",
            given=name,
            expected="a known problem or module:Class",
            cure=nearest(name, list(KNOWN)),
        )
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise NotFound(
            f"problem {name!r} does not import",
            given=str(error),
            expected="module:Class of an importable pymoo Problem",
            cure="Check the spelling, and that the module is installed or in the working directory.",
        ) from error
    return found


def describe(problem: Any, *, weights: dict[str, float] | None) -> Subject:
    """A problem in hand as a subject: what it says of itself, equal weights and no box where it says nothing."""
    count = int(problem.n_obj)
    objectives = tuple(getattr(problem, "objectives", None) or ((f"f{i + 1}", "1", "min") for i in range(count)))
    if len(objectives) != count:
        raise InvalidInput("objectives of the problem", given=len(objectives), expected=f"{count}, its n_obj")
    given = getattr(problem, "weights", None)
    weight = np.asarray(given if given is not None else np.full(count, 1 / count), dtype=np.float64)
    if weights is not None:
        names = [name for name, _, _ in objectives]
        unknown = sorted(set(weights) - set(names))
        if unknown:
            raise InvalidInput(
                "weights of objectives that the problem has not",
                given=unknown,
                expected=", ".join(names),
                cure=nearest(unknown[0], names),
                pointer="/weights",
            )
        weight = np.array([weights.get(name, 0.0) for name in names], dtype=np.float64)
    return Subject(
        problem=problem,
        objectives=objectives,
        weight=weight,
        box=getattr(problem, "box", None),
        anchors=getattr(problem, "anchors", dict)(),
        warm_start=bool(getattr(problem, "warm_start", False)),
    )
