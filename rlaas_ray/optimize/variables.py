"""What a pymoo problem's variables are, as columns of one float64 matrix: real, integer, binary, a choice among options.

`of` reads a problem's `vars` dict or its `vtype`; `decode` gives what the problem itself takes, `encode` the way back. Used by
evaluation.py, the algorithms and whoever shows a solution. Never varies a row: mixing.py does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pymoo.core.variable import Binary, Choice, Integer, Real

from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.optimize.evolution import bounds
from rlaas_ray.specs.arrays import F64, I64, Bool

REAL, INTEGER, BINARY, CHOICE = range(4)
_KINDS = ((Real, REAL), (Integer, INTEGER), (Binary, BINARY), (Choice, CHOICE))
_TYPES: dict[Any, int] = {float: REAL, int: INTEGER, bool: BINARY, None: REAL}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variables:
    """d columns: `kind` (d,), bounds `low`, `high` (d,). A choice is the index of its option.

    `names`: of a problem with `vars`, which takes dicts; `options`: of each of its columns, empty where it is no choice.
    `dtype`: of the matrix that any other problem takes. `permutation`: a row is an order of 0 to d - 1.
    """

    kind: I64
    low: F64
    high: F64
    names: tuple[str, ...] = ()
    options: tuple[tuple[Any, ...], ...] = ()
    dtype: Any = np.float64
    permutation: bool = False

    @property
    def whole(self) -> Bool:
        """(d,) whether only whole numbers are values of a column."""
        return np.asarray(self.kind != REAL, dtype=np.bool_)

    @property
    def plain(self) -> bool:
        """Whether the problem takes the float64 matrix as it is, all real."""
        return not self.names and self.dtype is np.float64 and not self.whole.any()

    def settle(self, x: F64) -> F64:
        """The nearest values there are. x (n, d) -> (n, d), in bounds."""
        whole, found = self.whole, np.minimum(np.maximum(x, self.low), self.high)
        found[:, whole] = np.rint(found[:, whole])
        return found

    def decode(self, x: F64) -> Any:
        """What the problem's `evaluate` takes: the matrix in its own dtype, or (n,) dicts."""
        if not self.names:
            return x if self.dtype is np.float64 else np.rint(x).astype(self.dtype)
        columns = [self._values(k, x[:, k]) for k in range(len(self.names))]
        rows: Any = np.empty(len(x), dtype=object)
        for row, values in enumerate(zip(*columns, strict=True)):
            rows[row] = dict(zip(self.names, values, strict=True))
        return rows

    def encode(self, given: Any) -> F64:
        """Back to (n, d), settled. Raises InvalidInput for what the problem has not."""
        if not self.names:
            found = np.array(given, dtype=np.float64)
            if found.ndim != 2 or found.shape[1] != len(self.low):
                raise InvalidInput("solutions", given=found.shape, expected=f"(n, {len(self.low)})")
            return self.settle(found)
        rows = [[self._number(k, row) for k in range(len(self.names))] for row in given]
        return self.settle(np.array(rows, dtype=np.float64).reshape(-1, len(self.names)))

    def named(self, row: F64) -> dict[str, Any] | None:
        """One solution (d,) by the names of its variables, JSON values; None where they have none."""
        if not self.names:
            return None
        values: dict[str, Any] = self.decode(row[None])[0]
        return {name: one.item() if isinstance(one, np.generic) else one for name, one in values.items()}

    def _values(self, column: int, x: F64) -> list[Any]:
        kind = self.kind[column]
        numbers: list[float] = x.tolist()
        if kind == REAL:
            return numbers
        if kind == CHOICE:
            return [self.options[column][round(index)] for index in numbers]
        return [bool(round(one)) if kind == BINARY else round(one) for one in numbers]

    def _number(self, column: int, row: Any) -> float:
        name = self.names[column]
        if name not in row:
            raise InvalidInput("a solution", given=sorted(row), expected=", ".join(self.names))
        if self.kind[column] != CHOICE:
            return float(row[name])
        if row[name] not in self.options[column]:
            raise InvalidInput(f"variable {name!r}", given=row[name], expected=f"one of {self.options[column]}")
        return float(self.options[column].index(row[name]))


def of(problem: Any) -> Variables:
    """The variables of a pymoo problem; an attribute `permutation = True` of it makes its rows orders.

    Raises InvalidInput where bounds are missing, NotBuilt for a kind that nobody varies.
    """
    given = getattr(problem, "vars", None)
    if given:
        return _of_named(given)
    kind = _TYPES.get(problem.vtype)
    if kind is None:
        raise NotBuilt(
            "variables of this type",
            given=problem.vtype,
            expected="float, int, bool, or `vars` of Real, Integer, Binary, Choice",
            cure="State the problem in these, or run pymoo's own algorithm on it.",
        )
    count = int(problem.n_var)
    if getattr(problem, "permutation", False):
        low, high = np.zeros(count), np.full(count, count - 1.0)
        return Variables(kind=np.full(count, INTEGER), low=low, high=high, dtype=np.int64, permutation=True)
    if kind == BINARY:
        low, high = np.zeros(count), np.ones(count)
    else:
        low, high = bounds(problem)
    dtype = {INTEGER: np.int64, BINARY: np.bool_}.get(kind, np.float64)
    found = Variables(kind=np.full(count, kind), low=low, high=high, dtype=dtype)
    if kind == INTEGER:
        found = replace(found, low=np.ceil(low), high=np.floor(high))
    return found


def takes_matrix(problem: Any) -> bool:
    """Whether the problem takes the float64 matrix as it is; quick, because it is asked in every generation."""
    return _TYPES.get(problem.vtype) == REAL and not (getattr(problem, "vars", None) or hasattr(problem, "permutation"))


def _of_named(given: dict[str, Any]) -> Variables:
    kinds, lows, highs, options = [], [], [], []
    for name, one in given.items():
        kind = next((number for type_, number in _KINDS if isinstance(one, type_)), None)
        if kind is None:
            raise NotBuilt(
                f"variable {name!r}",
                given=type(one).__name__,
                expected="Real, Integer, Binary or Choice",
                cure="Use these.",
            )
        choices = tuple(one.options) if kind == CHOICE else ()
        low, high = (0, len(choices) - 1) if kind == CHOICE else (0, 1) if kind == BINARY else one.bounds
        if low is None or high is None or not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise InvalidInput(f"bounds of variable {name!r}", given=(low, high), expected="finite, low <= high")
        kinds.append(kind)
        lows.append(float(low))
        highs.append(float(high))
        options.append(choices)
    return Variables(
        kind=np.array(kinds, dtype=np.int64),
        low=np.array(lows),
        high=np.array(highs),
        names=tuple(given),
        options=tuple(options),
    )
