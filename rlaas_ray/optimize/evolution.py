"""Evolution: what every search algorithm promises, and Population, the rows that it keeps.

Implemented by nsga2.py, nsga3.py, moead.py, spea2.py and by what runs through pymoo; driven by search.py, which evaluates
what `ask` gives and hands the values to `tell`. Holds no algorithm and never evaluates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize.kernels.variation import Variation
from rlaas_ray.specs.arrays import F64, Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Population:
    """n rows, a copy: variables, minimised objectives, constraints (g <= 0, h == 0) and violations (0 is feasible)."""

    x: F64  # (n, d)
    f: F64  # (n, m)
    g: F64  # (n, p)
    h: F64  # (n, q)
    cv: F64  # (n,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Setup:
    """What every algorithm is made with. `recipe` is what `algorithms.make` was asked for; it is written down with the state."""

    variation: Variation
    variables: int
    objectives: int
    population_size: int
    seed: int
    start: F64 | None = None  # (k, variables)
    recipe: Mapping[str, Any] = field(default_factory=dict)


class Evolution(Protocol):
    """An algorithm that is asked for rows and told their values; deterministic by seed, resumable bit for bit."""

    generation: int
    evaluations: int

    @property
    def population(self) -> Population:
        """The survivors of the last generation."""
        ...

    def ask(self) -> F64:
        """(k, d) rows to evaluate next; the same rows again until they are told. Not to be written to."""
        ...

    def tell(self, *, f: F64, g: F64, h: F64) -> None:
        """Their values, in the same order: f (k, m), g (k, p), h (k, q). NaN or infinity in f marks a failed row."""
        ...

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """A header that JSON can hold and the arrays: all that `algorithms.restore` needs, rows asked but not told included."""
        ...


def told(asked: F64 | None, *, f: F64, g: F64, h: F64, objectives: int) -> None:
    """Raises InvalidInput unless the values fit the rows that were asked."""
    if asked is None:
        raise InvalidInput(
            "values of rows that were not asked",
            given=f.shape,
            expected="ask() before tell()",
            cure="Call ask() first.",
        )
    rows = len(asked)
    if f.shape != (rows, objectives) or g.ndim != 2 or h.ndim != 2 or len(g) != rows or len(h) != rows:
        raise InvalidInput(
            "values of the rows that were asked",
            given=(f.shape, g.shape, h.shape),
            expected=f"f ({rows}, {objectives}), g ({rows}, p) and h ({rows}, q)",
        )


def bounds(problem: Any) -> tuple[F64, F64]:
    """(low, high), each (d,), of a pymoo problem. Raises InvalidInput where one is missing, infinite or crossed."""
    low, high = problem.xl, problem.xu
    if low is None or high is None:
        raise InvalidInput(
            "bounds of the problem", given=None, expected="xl and xu", cure="Give the problem xl and xu."
        )
    low, high = (np.broadcast_to(np.asarray(b, dtype=np.float64), (int(problem.n_var),)).copy() for b in (low, high))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise InvalidInput("bounds of the problem", given=(low.min(), high.max()), expected="finite xl <= xu")
    return low, high
