"""New rows from old ones where variables are of several kinds: each block by its own operators, in one matrix.

Real: SBX and PM. Integer: the same, rounded, and a mutation moves at least one step. Binary and choices: uniform or two-point
exchange, then a flip. Made by algorithms.py and library.py; a Variation as kernels/variation.py says. Never draws a value
that a column has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.optimize import operators
from rlaas_ray.optimize import variables as kinds
from rlaas_ray.optimize.kernels import variation
from rlaas_ray.specs.arrays import F64, I64, Bool

Exchange = Literal["uniform", "two_point"]
OPTIONS = (
    "crossover_probability",
    "crossover_eta",
    "mutation_probability",
    "mutation_eta",
    "variable_probability",
    "exchange",
)


def made(problem: Any, *, crossover: tuple[float, float], options: Mapping[str, Any]) -> variation.Variation:
    """How rows of a problem vary: `crossover` is the algorithm's own chance and eta of SBX, `options` those of OPTIONS.

    A method `repair(x)` of the problem, (n, d) -> (n, d) in columns of `variables.of`, has the last word on every row.
    """
    found = kinds.of(problem)
    real = variation.RealVariation(
        low=found.low,
        high=found.high,
        crossover=_share("crossover_probability", options.get("crossover_probability", crossover[0])),
        crossover_eta=_eta("crossover_eta", options.get("crossover_eta", crossover[1])),
        mutation=_share("mutation_probability", options.get("mutation_probability", 0.9)),
        mutation_eta=_eta("mutation_eta", options.get("mutation_eta", 20.0)),
        per_variable=_per_variable(options.get("variable_probability")),
    )
    exchange = options.get("exchange", "uniform")
    if exchange not in get_args(Exchange):
        raise InvalidInput("exchange", given=exchange, expected="uniform or two_point")
    how: variation.Variation = real
    if found.permutation:
        how = operators.permutations(problem)
    elif found.whole.any():
        how = MixedVariation(variables=found, real=real, exchange=exchange, flip=real.per_variable)
    fix = getattr(problem, "repair", None)
    return how if fix is None else Repaired(inner=how, fix=fix)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedVariation:
    """`real` holds bounds and settings of all d columns; its chances of crossover and mutation hold for every block.

    `exchange`: how binary columns and choices cross. `flip`: chance of each of them in a row that mutates, 1 / their count
    unless given.
    """

    variables: kinds.Variables
    real: variation.RealVariation
    exchange: Exchange = "uniform"
    flip: float | None = None
    _columns: tuple[I64, I64, I64] = field(init=False)

    def __post_init__(self) -> None:
        kind = self.variables.kind
        found = [np.flatnonzero(kind == one) for one in (kinds.REAL, kinds.INTEGER)]
        object.__setattr__(self, "_columns", (*found, np.flatnonzero(kind >= kinds.BINARY)))

    def sample(self, rows: int, rng: np.random.Generator) -> F64:
        """Every value of a column as probable."""
        low, high, whole = self.variables.low, self.variables.high, self.variables.whole
        drawn = rng.random((rows, len(low)))
        return np.where(whole, low + np.floor(drawn * (high - low + 1.0)), low + drawn * (high - low))

    def repair(self, x: F64) -> F64:
        """Clipped and rounded."""
        return self.variables.settle(x)

    def children(self, x: F64, *, first: I64, second: I64, each: int, rng: np.random.Generator) -> F64:
        """See Variation."""
        real, integer, discrete = self._columns
        born: F64 = np.empty((each * len(first), x.shape[1]))
        if len(real):
            varied = self._bounded(real)
            born[:, real] = varied.children(x[:, real], first=first, second=second, each=each, rng=rng)
        if len(integer):
            born[:, integer] = self._whole(
                x[:, integer], first=first, second=second, columns=integer, each=each, rng=rng
            )
        if len(discrete):
            a, b = x[np.ix_(first, discrete)], x[np.ix_(second, discrete)]
            born[:, discrete] = self._discrete(a, b, columns=discrete, each=each, rng=rng)
        return born

    def _bounded(self, columns: I64) -> variation.RealVariation:
        return replace(self.real, low=self.variables.low[columns], high=self.variables.high[columns])

    def _whole(self, x: F64, *, first: I64, second: I64, columns: I64, each: int, rng: np.random.Generator) -> F64:
        varied = replace(self._bounded(columns), mutation=0.0)
        born = np.rint(varied.children(x, first=first, second=second, each=each, rng=rng))
        chance = varied.per_variable if varied.per_variable is not None else min(0.5, 1.0 / len(columns))
        at = variation.positions(born.shape, row=self.real.mutation, each=chance, rng=rng)
        flat = born.reshape(-1)
        old = flat[at]
        variation.mutate(born, at, bounds=(varied.low, varied.high), eta=varied.mutation_eta, rng=rng)
        moved = np.rint(flat[at])
        # A small move rounds to none, and in a short range every move is small: then one step, inwards at a bound, or any
        # other value, for a short range often is a list of settings whose neighbours have little in common.
        low, high = varied.low[at % len(columns)], varied.high[at % len(columns)]
        up = (old <= low) | ((old < high) & (rng.random(len(at)) < 0.5))
        stepped = np.minimum(np.maximum(old + np.where(up, 1.0, -1.0), low), high)
        size = high - low + 1.0
        other = low + (old - low + 1.0 + np.floor(rng.random(len(at)) * np.maximum(size - 1.0, 1.0))) % size
        stepped = np.where(rng.random(len(at)) < 0.5, stepped, other)
        flat[at] = np.where(moved == old, stepped, moved)
        return born

    def _discrete(self, a: F64, b: F64, *, columns: I64, each: int, rng: np.random.Generator) -> F64:
        rows, width = a.shape
        taken = _taken((rows, width), how=self.exchange, rng=rng)
        taken &= np.less(rng.random((rows, 1)), self.real.crossover)
        born = np.where(taken, b, a)
        if each == 2:
            born = np.concatenate([born, np.where(taken, a, b)])
        chance = self.flip if self.flip is not None else 1.0 / width
        at = variation.positions(born.shape, row=self.real.mutation, each=chance, rng=rng)
        size = (self.variables.high - self.variables.low)[columns][at % width] + 1.0
        flat = born.reshape(-1)
        # One of the others: a step of 1 to size - 1 around the ring of values.
        step = 1.0 + np.floor(rng.random(len(at)) * (size - 1.0))
        flat[at] = np.where(size > 1.0, (flat[at] + step) % size, flat[at])
        return born


def _taken(shape: tuple[int, int], *, how: Exchange, rng: np.random.Generator) -> Bool:
    """Which entries child a takes from parent b."""
    if how == "uniform":
        return np.asarray(rng.random(shape) < 0.5, dtype=np.bool_)
    rows, width = shape
    cuts = np.sort(rng.integers(0, width + 1, size=(rows, 2)), axis=1)
    at = np.arange(width)
    return np.asarray((at >= cuts[:, :1]) & (at < cuts[:, 1:]), dtype=np.bool_)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Repaired:
    """Another variation, each of whose rows goes through `fix`, (n, d) -> (n, d)."""

    inner: variation.Variation
    fix: Callable[[F64], F64]

    def sample(self, rows: int, rng: np.random.Generator) -> F64:
        """See Variation."""
        return self._fixed(self.inner.sample(rows, rng))

    def repair(self, x: F64) -> F64:
        """See Variation."""
        return self._fixed(self.inner.repair(x))

    def children(self, x: F64, *, first: I64, second: I64, each: int, rng: np.random.Generator) -> F64:
        """See Variation."""
        return self._fixed(self.inner.children(x, first=first, second=second, each=each, rng=rng))

    def _fixed(self, x: F64) -> F64:
        found = np.array(self.fix(x), dtype=np.float64)
        if found.shape != x.shape or not np.isfinite(found).all():
            raise InvalidInput("what repair gave", given=found.shape, expected=f"{x.shape}, finite")
        return found


def _share(name: str, given: Any) -> float:
    if not isinstance(given, int | float) or not 0.0 <= given <= 1.0:
        raise InvalidInput(name, given=given, expected="a chance from 0 to 1")
    return float(given)


def _per_variable(given: Any) -> float | None:
    if given is None:
        return None
    if not isinstance(given, int | float) or not 0.0 < given <= 1.0:
        raise InvalidInput("variable_probability", given=given, expected="a chance above 0, at most 1")
    return float(given)


def _eta(name: str, given: Any) -> float:
    if not isinstance(given, int | float) or not 0.0 <= given <= 1000.0:
        raise InvalidInput(
            name, given=given, expected="0 to 1000; the larger, the closer are children to their parents"
        )
    return float(given)
