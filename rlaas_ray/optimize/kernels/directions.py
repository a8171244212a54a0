"""Reference directions: as many as fit a population, evenly over the simplex.

Called by NSGA-III, MOEA/D and search.py. The points are pymoo's Das-Dennis (1998); from eight objectives on two layers, since one
layer that fits would have no point inside (Deb & Jain 2014).
"""

from __future__ import annotations

from functools import lru_cache
from math import comb
from typing import Any

import numpy as np
from pymoo.util.ref_dirs import get_reference_directions

from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64

TWO_LAYERS_FROM = 8
INNER_SCALE = 0.5


def fitting(objectives: int, *, population_size: int) -> F64:
    """(k, m) rows that sum to 1, k <= population_size as large as partitions allow. A copy.

    Raises InvalidInput for fewer than two objectives, or a population that is smaller than the objectives are many.
    """
    if objectives < 2:
        raise InvalidInput(
            "a front needs two objectives",
            given=objectives,
            expected="a problem with n_obj >= 2",
            cure="Take algorithm ga or cmaes: they minimise one objective.",
        )
    if population_size < objectives:
        raise InvalidInput(
            "population_size", given=population_size, expected=f"at least {objectives}, one for each objective"
        )
    outer = _partitions(objectives, room=population_size)
    inner = 0
    if objectives >= TWO_LAYERS_FROM:
        inner = min(outer - 1, _partitions(objectives, room=population_size - count(objectives, parts=outer)))
    return _made(objectives, outer=outer, inner=inner).copy()


def given(directions: Any, *, objectives: int, population_size: int) -> F64:
    """(k, m) the directions that are given, checked, or, where None are, those that fit the population."""
    if directions is None:
        return fitting(objectives, population_size=population_size)
    found = np.array(directions, dtype=np.float64)
    whole = found.ndim == 2 and found.shape[1] == objectives and len(found) >= 2
    if not whole or not (np.isfinite(found).all() and (found >= 0.0).all() and found.any(axis=1).all()):
        raise InvalidInput(
            "directions",
            given=found.shape,
            expected=f"(k, {objectives}), k >= 2, finite numbers >= 0 and no row of zeros",
        )
    return found


def unit(directions: F64) -> F64:
    """The same directions with length 1. (k, m)."""
    return np.asarray(directions / np.sqrt(np.square(directions).sum(axis=1, keepdims=True)))


def count(objectives: int, *, parts: int) -> int:
    """How many directions `parts` partitions give."""
    return comb(parts + objectives - 1, objectives - 1)


def _partitions(objectives: int, *, room: int) -> int:
    parts = 0
    while count(objectives, parts=parts + 1) <= room:
        parts += 1
    return parts


@lru_cache(maxsize=64)
def _made(objectives: int, *, outer: int, inner: int) -> F64:
    layers = [get_reference_directions("das-dennis", objectives, n_partitions=outer)]
    if inner:
        layers.append(get_reference_directions("das-dennis", objectives, n_partitions=inner, scaling=INNER_SCALE))
    return np.concatenate(layers).astype(np.float64)
