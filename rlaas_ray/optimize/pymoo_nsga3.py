"""NSGA-III as pymoo runs it, asked and told: what search.py steps until the engine's own algorithms are there."""

from __future__ import annotations

from collections.abc import Mapping
from math import comb
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.operators.sampling.rnd import FloatRandomSampling
from pymoo.util.ref_dirs import get_reference_directions

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.optimize import algorithms
from rlaas_ray.optimize.evolution import Evolution
from rlaas_ray.specs.arrays import F64, Array


class _Nsga3:
    def __init__(self, *, problem: Any, population_size: int, seed: int, start: F64 | None) -> None:
        self._algorithm = NSGA3(
            ref_dirs=directions(int(problem.n_obj), population_size=population_size),
            pop_size=population_size,
            sampling=_sampled(problem, population_size=population_size, seed=seed, start=start),
        )
        self._algorithm.setup(problem, seed=seed, verbose=False)
        self.generation = 0
        self._asked: Any = None

    def ask(self) -> F64:
        self._asked = self._algorithm.ask()
        return np.asarray(self._asked.get("X"), dtype=np.float64)

    def tell(self, *, f: F64, g: F64, h: F64) -> None:
        self._asked.set("F", f, "G", g, "H", h)
        for one in self._asked:
            one.evaluated.update({"F", "G", "H"})
        self._algorithm.tell(infills=self._asked)
        self.generation += 1

    def state(self) -> tuple[dict[str, Any], dict[str, Array]]:
        raise NotBuilt("the state of pymoo's NSGA-III", cure="Search without checkpoints.")


def make(
    name: str,
    *,
    problem: Any,
    population_size: int,
    seed: int,
    start: F64 | None = None,
    options: Mapping[str, Any] | None = None,
) -> Evolution:
    """NSGA-III as pymoo runs it; every other name is the engine's."""
    if name not in {"auto", "nsga3"} or name in algorithms.NAMES:
        return algorithms.make(
            name, problem=problem, population_size=population_size, seed=seed, start=start, options=options
        )
    return _Nsga3(problem=problem, population_size=population_size, seed=seed, start=start)


def directions(objectives: int, *, population_size: int) -> F64:
    """Das-Dennis reference directions, as many as fit the population. (k, m)."""
    if objectives < 2:
        raise InvalidInput(
            "a front needs two objectives",
            given=objectives,
            expected="a problem with n_obj >= 2",
            cure="Use a plain optimizer.",
        )
    parts = 1
    while comb(parts + objectives, objectives - 1) <= population_size:
        parts += 1
    return np.asarray(get_reference_directions("das-dennis", objectives, n_partitions=parts), dtype=np.float64)


def _sampled(problem: Any, *, population_size: int, seed: int, start: F64 | None) -> Any:
    if start is None:
        return FloatRandomSampling()
    low, high = np.asarray(problem.xl, dtype=np.float64), np.asarray(problem.xu, dtype=np.float64)
    first = np.random.default_rng(seed).random((population_size, int(problem.n_var))) * (high - low) + low
    first[: len(start)] = start
    return first
