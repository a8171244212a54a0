"""What an agent is told of a dataflow, checked and made into arrays: operators under either vocabulary, and who feeds whom.

Called by agent.py for people's dicts or objects, and by whoever has the numbers as arrays already (`describe`). Never guesses:
what is no finite number is refused by operator and key.

`B` dataflows, `k` schemes of each, `n` operators, `F` features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import ds2
from rlaas_ray.specs.arrays import F32, F64, I64, Array, Bool

# Each quantity, the names it goes by, and what it is when nobody says. Shares are of 1.
QUANTITIES: Mapping[str, tuple[tuple[str, ...], float]] = {
    "processing_capability": (("processing_capability", "processing_capacity"), 0.0),  # records/s of one instance
    "input_rate": (("input_rate",), 0.0),  # records/s
    "resource_load": (("resource_load", "cpu_usage"), 0.0),
    "memory_usage": (("memory_usage",), 0.0),
    "selectivity": (("selectivity",), 1.0),  # records out for each record in
    "instance_count": (("instance_count",), 0.0),
    "back_pressure": (("back_pressure",), 0.0),  # share of time
    "queue": (("queue",), 0.0),  # share of its buffer
    "rate_change": (("rate_change",), 0.0),  # of the sources, as a share
    "lag": (("lag",), 0.0),  # share of what an agent cares to tell apart
    "latency": (("latency",), 0.0),
    "downtime": (("downtime",), 0.0),
}
NAMES = ("name", "operator_name")
SPOUT = "spout"
STATE, SCHEME = 16, 4  # features of an operator as it stands, and of what a scheme would make of it
FEATURES = STATE + SCHEME
_TOO_MANY = 1e9  # instances, or records out for each in: beyond it all is the same


class BadOperators(InvalidInput, ValueError):
    """A dataflow that cannot be what was meant; also a ValueError, which is what callers of the agent expect."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Operators:
    """Dataflows of one shape. `fixed` operators keep `current`; `quantities` (B, n) by the names of QUANTITIES."""

    names: tuple[str, ...]
    edges: tuple[tuple[int, int], ...]
    fixed: Bool  # (n,)
    current: I64  # (B, n), in 1..max_parallelism
    demand: F64  # (B, n), instances that the offered rate needs, unrounded; NaN where nobody knows
    wanted: I64  # (B, n), the DS2 scheme
    features: F32  # (B, n, STATE)
    load: F64  # (B, n), how busy, to tell the busiest from the idlest
    max_parallelism: int

    @property
    def count(self) -> int:
        """Operators n."""
        return len(self.names)

    def adjacency(self) -> F32:
        """(n, n), 1 at [source, target]."""
        found = np.zeros((self.count, self.count), dtype=np.float32)
        for source, target in self.edges:
            found[source, target] = 1.0
        return found

    def take(self, rows: Bool | I64) -> Operators:
        """Some of the dataflows."""
        return Operators(
            names=self.names,
            edges=self.edges,
            fixed=self.fixed,
            current=self.current[rows],
            demand=self.demand[rows],
            wanted=self.wanted[rows],
            features=self.features[rows],
            load=self.load[rows],
            max_parallelism=self.max_parallelism,
        )


def parse(
    operators_info: Sequence[Any],
    dependencies: Sequence[Sequence[int]],
    *,
    max_parallelism: int,
    current: Sequence[int] | None = None,
) -> Operators:
    """Dicts, or objects with attributes, as a batch of one. Unknown keys are left alone.

    `current` is the scheme in force where an operator has no `instance_count`. An operator is fixed where `fixed` is a count, or
    where `component_type` is "spout" (at its `instance_count`, else 1). Raises BadOperators, a ValueError, by operator and key.
    """
    if not operators_info:
        raise BadOperators("operators_info", given="no operator", expected="one at least", cure="Name the operators.")
    if current is not None and len(current) != len(operators_info):
        raise BadOperators("current scheme", given=list(current), expected=f"{len(operators_info)} counts")
    names = [_name(item, number=number) for number, item in enumerate(operators_info)]
    found = {
        key: np.array([[_number(item, key, name=name) for item, name in zip(operators_info, names, strict=True)]])
        for key in QUANTITIES
    }
    pinned = [_fixed(item, name=name, limit=max_parallelism) for item, name in zip(operators_info, names, strict=True)]
    started = found["instance_count"][0].astype(np.int64)
    if current is not None:
        started = np.where(started > 0, started, np.asarray(current, dtype=np.int64))
    started = np.clip(started, 1, max_parallelism)
    started = np.where([pin is not None for pin in pinned], [pin or 1 for pin in pinned], started)
    return describe(
        names=tuple(names),
        edges=edges_of(dependencies, operators=len(names)),
        fixed=np.array([pin is not None for pin in pinned]),
        current=started[None],
        quantities=found,
        max_parallelism=max_parallelism,
    )


def edges_of(dependencies: Sequence[Sequence[int]], *, operators: int) -> tuple[tuple[int, int], ...]:
    """(source, target) pairs, each once. Raises BadOperators for an index out of range, a self-loop, a cycle."""
    edges: list[tuple[int, int]] = []
    for pair in dependencies:
        if len(pair) != 2 or any(isinstance(end, bool) or not isinstance(end, int | np.integer) for end in pair):
            raise BadOperators("dependencies", given=pair, expected="(source, target), two indices of operators_info")
        source, target = int(pair[0]), int(pair[1])
        if not (0 <= source < operators and 0 <= target < operators):
            raise BadOperators(
                "dependencies",
                given=(source, target),
                expected=f"indices from 0 to {operators - 1}",
                cure="Count operators from 0, in the order of operators_info.",
            )
        if source == target:
            raise BadOperators("dependencies", given=(source, target), expected="two operators", cure="Leave it out.")
        if (source, target) not in edges:
            edges.append((source, target))
    try:
        ds2.order(edges, operators=operators)
    except InvalidInput as error:
        raise BadOperators("dependencies", given=error.given, expected="no cycle", cure=error.cure) from None
    return tuple(edges)


def describe(
    *,
    names: tuple[str, ...],
    edges: tuple[tuple[int, int], ...],
    fixed: Bool,
    current: I64,
    quantities: Mapping[str, F64],
    max_parallelism: int,
    ways: Sequence[float] | None = None,
) -> Operators:
    """The same from arrays (B, n): what demand, DS2 scheme and features follow from them.

    `ways`: the selectivity of each edge, where an operator's outputs differ; else each edge has its operator's.
    """
    told = {key: quantities.get(key, np.full(current.shape, default)) for key, (_, default) in QUANTITIES.items()}
    capability, rate = told["processing_capability"], told["input_rate"]
    roots = tuple(one for one in range(len(names)) if not any(target == one for _, target in edges))
    passes = np.empty((len(current), len(edges)))
    for way, (source, _) in enumerate(edges):
        passes[:, way] = told["selectivity"][:, source] if ways is None else ways[way]
    inflow = _inflow(rate, passes=passes, edges=edges, roots=roots)
    with np.errstate(over="ignore"):  # the rate of a whole world over next to nothing is just too much
        demand = np.divide(inflow, capability, out=np.full(current.shape, np.nan), where=capability > 0)
    demand = np.minimum(demand, _TOO_MANY)
    # DS2 where every instance has its operator's rate: T_o / (processed_o / instances_o), and T_o is the inflow.
    wanted = np.where(np.isnan(demand), current, np.ceil(demand - ds2.ROUNDING))
    wanted = np.where(fixed, current, np.clip(wanted, 1, max_parallelism)).astype(np.int64)
    needed = np.nan_to_num(demand) / current
    load = np.where((told["resource_load"] > 0).any(axis=1, keepdims=True), told["resource_load"], needed)
    return Operators(
        names=names,
        edges=edges,
        fixed=fixed,
        current=current,
        demand=demand,
        wanted=wanted,
        features=_features(told, current=current, demand=demand, fixed=fixed, edges=edges, limit=max_parallelism),
        load=load,
        max_parallelism=max_parallelism,
    )


def under(schemes: I64, *, current: I64, demand: F64, limit: Array) -> F32:
    """(B, k, n, SCHEME): what schemes (B, k, n) would make of each operator: count, change, whether the job restarts, load.

    `limit` (B,) is P. A network that sees counts alone has to find out by itself that they equal those in force.
    """
    most = np.asarray(limit, dtype=np.float64)[:, None, None]
    change = (schemes - current[:, None, :]) / most
    restarts = np.broadcast_to((change != 0).any(axis=2, keepdims=True), change.shape)
    load = np.nan_to_num(demand)[:, None, :] / np.maximum(schemes, 1)
    found: F32 = np.stack([schemes / most, change, restarts, np.minimum(load, 4.0)], axis=3).astype(np.float32)
    return found


def _inflow(rate: F64, *, passes: F64, edges: tuple[tuple[int, int], ...], roots: tuple[int, ...]) -> F64:
    """(B, n) records/s that reach each operator when nothing holds them up; its own `input_rate` where no source tells one."""
    inflow = np.zeros_like(rate)
    passes = np.minimum(passes, _TOO_MANY)
    for one in ds2.order(edges, operators=rate.shape[1]):
        if one in roots:
            inflow[:, one] = rate[:, one]
        for way, (source, target) in enumerate(edges):
            if target == one:
                inflow[:, one] += inflow[:, source] * passes[:, way]
        inflow[:, one] = np.where(inflow[:, one] > 0, inflow[:, one], rate[:, one])
    return inflow


def _features(
    told: Mapping[str, F64], *, current: I64, demand: F64, fixed: Bool, edges: tuple[tuple[int, int], ...], limit: int
) -> F32:
    shape = current.shape
    sends, receives = np.zeros(shape[1]), np.zeros(shape[1])
    for source, target in edges:
        sends[source], receives[target] = 1.0, 1.0
    found = np.zeros((*shape, STATE), dtype=np.float32)
    columns = (
        np.log1p(np.maximum(told["processing_capability"], 0.0)) / 20.0,
        np.log1p(np.maximum(told["input_rate"], 0.0)) / 20.0,
        np.minimum(np.nan_to_num(demand) / limit, 4.0),
        np.log1p(np.maximum(told["resource_load"], 0.0)),
        np.log1p(np.maximum(told["memory_usage"], 0.0)),
        np.log1p(np.maximum(told["selectivity"], 0.0)),
        current / limit,
        np.broadcast_to(fixed.astype(np.float64), shape),
        np.broadcast_to(1.0 - receives, shape),
        np.broadcast_to(1.0 - sends, shape),
        *(np.clip(told[key], -4.0, 4.0) for key in ("back_pressure", "queue", "rate_change")),
        *(np.clip(told[key], -4.0, 4.0) for key in ("lag", "latency", "downtime")),
    )
    for number, column in enumerate(columns):
        found[:, :, number] = column
    return found


def _get(item: Any, key: str) -> Any:
    return item.get(key) if isinstance(item, Mapping) else getattr(item, key, None)


def _name(item: Any, *, number: int) -> str:
    for key in NAMES:
        found = _get(item, key)
        if isinstance(found, str) and found:
            return found
        if found is not None:
            raise BadOperators(f"operator {number}: {key}", given=found, expected="a word")
    return f"op_{number}"


def _number(item: Any, key: str, *, name: str) -> float:
    names, default = QUANTITIES[key]
    for alias in names:
        found = _get(item, alias)
        if found is None:
            continue
        if isinstance(found, bool) or not isinstance(found, int | float | np.integer | np.floating):
            raise BadOperators(f"operator {name!r}: {alias}", given=found, expected="a number")
        if not math.isfinite(found):
            raise BadOperators(f"operator {name!r}: {alias}", given=float(found), expected="a finite number")
        return float(found)
    return default


def _fixed(item: Any, *, name: str, limit: int) -> int | None:
    """The count that an operator keeps; None where it may be scaled."""
    pinned = _get(item, "fixed")
    kind = _get(item, "component_type")
    if pinned is None and kind != SPOUT:
        return None
    count = pinned
    if pinned is None:
        count = round(_number(item, "instance_count", name=name)) or 1
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or not 1 <= count <= limit:
        raise BadOperators(
            f"operator {name!r}: {'fixed' if pinned is not None else 'instance_count'}",
            given=count,
            expected=f"a count from 1 to {limit}",
            cure="Raise max_parallelism, or name the count that it really has.",
        )
    return int(count)
