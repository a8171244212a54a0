"""Problem type `stream_parallelism`: counts of a job under a constant rate, as a pymoo problem with three objectives.

Met by optimize/problems.py. The same physics as the environment, from empty queues and without restarts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np
from pymoo.core.problem import Problem

from rlaas_ray.envs.stream import model
from rlaas_ray.envs.stream.document import flow_of
from rlaas_ray.envs.stream.reward import MODES as REWARDS
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64

INTERVALS = 60
_NOISE = 1e-9  # a shortfall this small is rounding
OBJECTIVES: tuple[tuple[str, str, Literal["min", "max"]], ...] = (
    ("shortfall", "1", "min"),
    ("latency", "s", "min"),
    ("resources", "1", "min"),
)
# Weights of the environment's modes: throughput, latency, resources. "normal" is its "balanced".
MODES: Mapping[str, tuple[float, float, float]] = {
    name: (weight[0], weight[2], weight[3]) for name, weight in {"normal": REWARDS["balanced"], **REWARDS}.items()
}


class StreamStaticProblem(Problem):  # type: ignore[misc, no-any-unimported]  # pymoo has no types
    """x is int (n, k), 1..P instances of each tunable operator; numbers in between are rounded."""

    MODES: ClassVar[Mapping[str, tuple[float, float, float]]] = MODES
    objectives = OBJECTIVES

    def __init__(self, *, mode: str = "balanced", query: str = "wordcount", load: float = 1.0) -> None:
        if mode not in MODES:
            raise InvalidInput(
                "mode of problem stream_parallelism",
                given=mode,
                expected=", ".join(MODES),
                cure=nearest(mode, list(MODES)),
            )
        if not 0 < load <= 10:
            raise InvalidInput("load of problem stream_parallelism", given=load, expected="above 0, at most 10 nominal")
        self.flow, self.load = flow_of(query), load
        self.weights = np.asarray(MODES[mode], dtype=np.float64)
        self.box = (np.zeros(3), np.asarray([1.0, model.MAX_LATENCY_S, 1.0]))
        super().__init__(n_var=len(self.flow.tunable), n_obj=3, xl=1.0, xu=float(self.flow.max_parallelism), vtype=int)

    def natural(self, x: F64) -> F64:
        """Mean shortfall, latency at the end (s), share of all instances, after ten minutes. x (n, k) -> (n, 3)."""
        given = np.asarray(x, dtype=np.float64)
        if given.ndim != 2 or given.shape[1] != self.n_var or not ((given >= 1) & (given <= self.xu)).all():
            raise InvalidInput(
                "variables of problem stream_parallelism",
                given=given.shape,
                expected=f"(n, {self.n_var}) from 1 to {self.flow.max_parallelism}",
            )
        count, batch = np.rint(given).astype(np.int64), len(given)
        rates = np.tile(self.flow.nominal * self.load, (batch, 1))
        queue, served = np.zeros((batch, len(self.flow.operators))), np.zeros(batch)
        latency = np.zeros(batch)
        for _ in range(INTERVALS):
            passed = model.interval(
                self.flow,
                queue=queue,
                count=count,
                rates=rates,
                down_s=np.zeros(batch),
                skew=(0.0,) * count.shape[1],
            )
            queue, served = passed.queue, served + model.served(self.flow, passed)
            latency = model.latency_s(self.flow, passed)
        shortfall = 1.0 - served / (INTERVALS * rates.sum(axis=1))
        shortfall = np.where(np.abs(shortfall) < _NOISE, 0.0, shortfall)
        resources = count.sum(axis=1) / (count.shape[1] * self.flow.max_parallelism)
        return np.stack((shortfall, latency, resources), axis=1)

    def _evaluate(self, x: Any, out: dict[str, Any], *_: object, **__: object) -> None:
        out["F"] = self.natural(x)

    def anchors(self) -> dict[str, F64]:
        """Points that an engineer would try first; name -> (k,)."""
        least = self.flow.least(np.asarray([[self.flow.inflow[one] * self.load for one in self.flow.tunable]]))
        entries = len(self.flow.tunable)
        return {
            "one each": np.ones(entries),
            "as the environment starts": np.full(entries, min(8.0, self.flow.max_parallelism)),
            "least that carries": least[0].astype(np.float64),
            "all": np.full(entries, float(self.flow.max_parallelism)),
        }
