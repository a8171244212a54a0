"""Dataflows: operators with their rates, edges with their selectivity; the seven of the table, and a user's own from YAML.

Called by the model, the observation and the baselines. Knows capacity as a function of parallelism; never moves a record.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import ds2
from rlaas_ray.specs.arrays import F64, I64

MAX_OPERATORS = 16
_SLACK = 1e-9  # a capacity this little (relative) below the demand carries it


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A source (`rate` is what it offers nominally) or a tunable operator (`rate` is of one instance), records/s.

    sigma is contention and kappa coherency of the Universal Scalability Law; a source has no parallelism of its own.
    """

    name: str
    rate: float
    sigma: float = 0.0
    kappa: float = 0.0
    source: bool = False
    state_gb: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Records of operator `source` reach `target`, `selectivity` for each one processed. Indices of operators."""

    source: int
    target: int
    selectivity: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Dataflow:
    """A valid DAG: made by `dataflow`. Indices are of `operators`; `tunable` names those that an action sets."""

    name: str
    operators: tuple[Operator, ...]
    edges: tuple[Edge, ...]
    max_parallelism: int = 32

    @functools.cached_property
    def order(self) -> tuple[int, ...]:
        """Topological."""
        return ds2.order(self.pairs, operators=len(self.operators))

    @functools.cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(source, target) of each edge."""
        return tuple((edge.source, edge.target) for edge in self.edges)

    @functools.cached_property
    def sources(self) -> tuple[int, ...]:
        """Indices of the sources."""
        return tuple(number for number, one in enumerate(self.operators) if one.source)

    @functools.cached_property
    def tunable(self) -> tuple[int, ...]:
        """Indices of the operators whose parallelism is set, in the order of the action's entries."""
        return tuple(number for number, one in enumerate(self.operators) if not one.source)

    @functools.cached_property
    def nominal(self) -> F64:
        """(s,) nominal records/s of the sources."""
        return np.asarray([self.operators[one].rate for one in self.sources])

    @functools.cached_property
    def inflow(self) -> tuple[float, ...]:
        """Records/s into each operator at the nominal rate, nothing held back; a source's own rate."""
        return self.inflow_at(tuple(float(one) for one in self.nominal))

    def inflow_at(self, rates: Sequence[float]) -> tuple[float, ...]:
        """Records/s into each operator when the sources give `rates` (s,)."""
        into = [0.0] * len(self.operators)
        for number, rate in zip(self.sources, rates, strict=True):
            into[number] = float(rate)
        for one in self.order:
            for edge in self.edges:
                if edge.source == one:
                    into[edge.target] += edge.selectivity * into[one]
        return tuple(into)

    @functools.cached_property
    def shares(self) -> tuple[float, ...]:
        """Of each edge: its part of its target's nominal inflow."""
        return tuple(self.inflow[edge.source] * edge.selectivity / self.inflow[edge.target] for edge in self.edges)

    @functools.cached_property
    def hops(self) -> int:
        """Edges of the longest path."""
        depth = [0] * len(self.operators)
        for one in self.order:
            for edge in self.edges:
                if edge.source == one:
                    depth[edge.target] = max(depth[edge.target], depth[one] + 1)
        return max(depth)

    @functools.cached_property
    def capacities(self) -> F64:
        """(k, P) records/s of each tunable operator with 1..P instances."""
        counts = np.arange(1, self.max_parallelism + 1, dtype=np.float64)
        return np.stack([capacity(self.operators[one], counts) for one in self.tunable])

    def least(self, rates: F64) -> I64:
        """(B, k) the least parallelism that carries inflows (B, k) of the tunable operators; the strongest where none does."""
        enough = self.capacities[None] >= rates[:, :, None] * (1.0 - _SLACK)
        strongest = self.capacities.argmax(axis=1)
        found: I64 = np.where(enough.any(axis=2), enough.argmax(axis=2), strongest[None]) + 1
        return found

    def peak(self) -> tuple[int, ...]:
        """The least parallelism at the nominal rate."""
        wanted = np.asarray([[self.inflow[one] for one in self.tunable]])
        return tuple(int(one) for one in self.least(wanted)[0])


def capacity(operator: Operator, count: F64) -> F64:
    """Records/s of `count` instances: the Universal Scalability Law (Gunther 1993), r p / (1 + sigma (p-1) + kappa p (p-1))."""
    loss = 1.0 + operator.sigma * (count - 1.0) + operator.kappa * count * (count - 1.0)
    found: F64 = operator.rate * count / loss
    return found


def dataflow(name: str, *, operators: Sequence[Operator], edges: Sequence[Edge], max_parallelism: int = 32) -> Dataflow:
    """A checked dataflow. Raises InvalidInput saying what is wrong with which operator or edge."""
    names = [one.name for one in operators]
    twice = sorted({one for one in names if names.count(one) > 1})
    if twice:
        raise _wrong(name, given=twice[0], expected="each operator named once", cure="Rename one of them.")
    if not 2 <= len(names) <= MAX_OPERATORS:
        raise _wrong(
            name, given=len(names), expected=f"2 to {MAX_OPERATORS} operators", cure="Chain operators into one."
        )
    for one in operators:
        _check_numbers(name, one)
    found = Dataflow(
        name=name, operators=tuple(operators), edges=tuple(edges), max_parallelism=_whole(name, max_parallelism)
    )
    _check_edges(found)
    _ = found.order
    return found


def _check_numbers(name: str, one: Operator) -> None:
    for field, value, least in (("rate", one.rate, None), *((f, getattr(one, f), 0.0) for f in _NOT_NEGATIVE)):
        fits = math.isfinite(value) and (value > 0 if least is None else value >= least)
        if not fits:
            wanted = "a finite number above 0" if least is None else "a finite number of at least 0"
            raise _wrong(name, given=f"{field} {value} of {one.name!r}", expected=wanted, cure="Correct the number.")


_NOT_NEGATIVE = ("sigma", "kappa", "state_gb")


def _check_edges(flow: Dataflow) -> None:
    name, operators = flow.name, flow.operators
    if not flow.sources:
        raise _wrong(name, given="no source", expected="at least one operator with `source_rate`", cure="Add a source.")
    for edge in flow.edges:
        way = f"{operators[edge.source].name} -> {operators[edge.target].name}"
        if edge.source == edge.target:
            raise _wrong(name, given=way, expected="no cycle", cure="Remove the edge from the operator to itself.")
        if flow.pairs.count((edge.source, edge.target)) > 1:
            raise _wrong(name, given=f"{way} twice", expected="an edge once", cure="Add their selectivities up.")
        if operators[edge.target].source:
            raise _wrong(name, given=way, expected="no edge into a source", cure="Give the target `rate` instead.")
        if not (math.isfinite(edge.selectivity) and edge.selectivity > 0):
            raise _wrong(
                name,
                given=f"selectivity {edge.selectivity} of {way}",
                expected="a finite number above 0",
                cure="Leave the edge out where nothing flows.",
            )
    for number, one in enumerate(operators):
        if not any(number in pair for pair in flow.pairs) or not (
            one.source or any(t == number for _, t in flow.pairs)
        ):
            wanted = "an edge from it" if one.source else "an edge into it"
            raise _wrong(name, given=one.name, expected=wanted, cure="Connect it, or leave it out.")


def _whole(name: str, value: int) -> int:
    if not 2 <= value <= 1024:
        raise _wrong(name, given=value, expected="max_parallelism from 2 to 1024", cure="Correct the number.")
    return value


def _wrong(name: str, *, given: object, expected: str, cure: str) -> InvalidInput:
    return InvalidInput(f"dataflow {name!r}", given=given, expected=expected, cure=cure)
