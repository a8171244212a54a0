"""The typed space of a study: floats, whole numbers and choices, some of them conditional; drawn from, enumerated, compared.

Made from a TuneSpec, used by the samplers and by the population. Compiles to distributions of Optuna (samplers.py), to domains
of Ray Tune (raytune.py) and to JSON. Pure.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.specs import tune as specs
from rlaas_ray.specs.tune import Dimension, TuneSpec

Parameters = dict[str, Any]
_CLOSE = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Float:
    """A real number in [low, high]; with `step`, low + k * step."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def at(self, share: float) -> float:
        """The value at `share` in [0, 1) of the range."""
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + _CLOSE) + 1
            return self.low + self.step * min(count - 1, math.floor(share * count))
        if self.log:
            return min(
                self.high, max(self.low, math.exp(_between(math.log(self.low), math.log(self.high), share=share)))
            )
        return _between(self.low, self.high, share=share)

    def values(self) -> list[float]:
        """All of them; only with a step."""
        assert self.step is not None
        count = math.floor((self.high - self.low) / self.step + _CLOSE) + 1
        return [self.low + self.step * k for k in range(count)]

    def holds(self, value: Any) -> bool:
        """Whether a value lies in the range."""
        return isinstance(value, int | float) and self.low <= value <= self.high

    def near(self, value: float, *, factor: float) -> float:
        """`value * factor`, kept in the range (and on the grid of the steps)."""
        return self.kept(value * factor)

    def kept(self, value: float) -> float:
        """The nearest value that it has."""
        inside = min(self.high, max(self.low, value))
        return inside if self.step is None else self.low + self.step * round((inside - self.low) / self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Int:
    """A whole number in [low, high], both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1

    def at(self, share: float) -> int:
        """The value at `share` in [0, 1) of the range; on a log scale each number has the width of [n - 0.5, n + 0.5)."""
        if self.log:
            real = math.exp(_between(math.log(self.low - 0.5), math.log(self.high + 0.5), share=share))
            return min(self.high, max(self.low, round(real)))
        return self.values()[math.floor(share * len(self.values()))]

    def values(self) -> range:
        """All of them."""
        return range(self.low, self.high + 1, self.step)

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return isinstance(value, int) and value in self.values()

    def near(self, value: int, *, factor: float) -> int:
        """`value * factor` as one of them, another than `value` where there is one on that side."""
        moved = round(value * factor)
        if moved == value:
            moved += 1 if factor > 1 else -1
        return self.kept(moved)

    def kept(self, value: float) -> int:
        """The nearest value that it has."""
        steps = round((value - self.low) / self.step)
        return self.values()[min(len(self.values()) - 1, max(0, steps))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One of a list, of any JSON values."""

    listed: tuple[Any, ...]

    def at(self, share: float) -> Any:
        """The value at `share` in [0, 1) of the list."""
        return self.listed[math.floor(share * len(self.listed))]

    def values(self) -> tuple[Any, ...]:
        """All of them."""
        return self.listed

    def holds(self, value: Any) -> bool:
        """Whether a value is one of them."""
        return value in self.listed

    def near(self, value: Any, *, factor: float) -> Any:
        """The neighbour in the list."""
        place = self.listed.index(value) + (1 if factor > 1 else -1)
        return self.listed[min(len(self.listed) - 1, max(0, place))]

    def kept(self, value: Any) -> Any:
        """Itself: there is nothing outside a list."""
        return value


Domain = Float | Int | Choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Domains by name, parents before children; `when` has the values of other parameters that a name is taken for."""

    domains: Mapping[str, Domain]
    when: Mapping[str, Mapping[str, tuple[Any, ...]]]

    def taken(self, name: str, parameters: Mapping[str, Any]) -> bool:
        """Whether `name` is taken, given the parameters before it."""
        conditions = self.when.get(name, {})
        return all(parent in parameters and parameters[parent] in values for parent, values in conditions.items())

    def draw(self, rng: np.random.Generator) -> Parameters:
        """Each domain uniformly; one number of the generator for each name, taken or not."""
        shares = rng.random(len(self.domains))
        found: Parameters = {}
        for (name, domain), share in zip(self.domains.items(), shares, strict=True):
            if self.taken(name, found):
                found[name] = domain.at(float(share))
        return found

    def all(self) -> Iterator[Parameters]:
        """Every point once, the last name changing fastest; ranges need a step."""
        seen: set[str] = set()
        for values in itertools.product(*(list(domain.values()) for domain in self.domains.values())):
            found: Parameters = {}
            for name, value in zip(self.domains, values, strict=True):
                if self.taken(name, found):
                    found[name] = value
            if repr(found) not in seen:
                seen.add(repr(found))
                yield found

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        """Whether this is a point of the space: the names that it takes, each in its domain."""
        wanted = {name for name in self.domains if self.taken(name, parameters)}
        return wanted == set(parameters) and all(self.domains[name].holds(value) for name, value in parameters.items())


def of(spec: TuneSpec) -> Space:
    """The space of a spec; what is whole in TrainSpec is whole here."""
    domains: dict[str, Domain] = {}
    for name in specs.order(spec.space):
        dimension = spec.space[name]
        whole = dimension.integer
        if whole is None and dimension.values is None and spec.train is not None:
            whole = specs.whole(specs.field_of(name, train=spec.train, space=spec.space))
        domains[name] = domain(dimension, whole=bool(whole))
    when = {name: _conditions(dimension) for name, dimension in spec.space.items() if dimension.when}
    return Space(domains=domains, when=when)


def domain(dimension: Dimension, *, whole: bool) -> Domain:
    """One dimension as a domain."""
    if dimension.low is None or dimension.high is None:
        assert dimension.values is not None
        return Choice(listed=tuple(dimension.values))
    if whole:
        step = 1 if dimension.step is None else max(1, int(dimension.step))
        return Int(low=math.ceil(dimension.low), high=math.floor(dimension.high), log=dimension.log, step=step)
    return Float(low=dimension.low, high=dimension.high, log=dimension.log, step=dimension.step)


def _conditions(dimension: Dimension) -> dict[str, tuple[Any, ...]]:
    return {
        parent: tuple(specs.number(value if isinstance(value, list) else [value]))
        for parent, value in (dimension.when or {}).items()
    }


def _between(low: float, high: float, *, share: float) -> float:
    return low + (high - low) * share
