"""Rows of StreamParallelism as dataflows of the agent: what it is told of each operator, and its schemes as actions.

Made by trainer.py. Pure; knows the order of the env's numbers, and nothing of learning.

`B` rows, `n` operators (sources too), `t` of them tunable.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rlaas_ray.envs.stream import observation
from rlaas_ray.envs.stream.graph import Dataflow
from rlaas_ray.envs.stream.job import GraphParallelism, StreamParallelism
from rlaas_ray.envs.stream.mixed import Mixed
from rlaas_ray.errors import InvalidInput, NotBuilt
from rlaas_ray.policies.lastream import operators
from rlaas_ray.policies.lastream.operators import Operators
from rlaas_ray.specs.arrays import F32, F64, I64
from rlaas_ray.train.worlds import Worlds

_PER, _JOB = len(observation.OPERATOR), len(observation.JOB)


class Flows:
    """One dataflow and the rows that an env gives of it."""

    def __init__(self, flow: Dataflow, *, most: int) -> None:
        self.flow = flow
        self.most = most  # of an operator: with a cluster of few slots no other count is allowed
        self._tunable = list(flow.tunable)
        self._fixed = np.array([one.source for one in flow.operators])
        self._rates = np.array([0.0 if one.source else one.rate for one in flow.operators])
        self._out = np.array(
            [sum(edge.selectivity for edge in flow.edges if edge.source == one) for one in range(len(flow.operators))]
        )

    def told(self, rows: F32) -> Operators:
        """Encoded observations (B, 6 t + 7) as the agent takes them. A source counts as one fixed instance.

        The demand follows from the offered rate and from true rates; before there are any, from the nominal ones.
        """
        flow, batch = self.flow, len(rows)
        each = rows[:, :-_JOB].astype(np.float64).reshape(batch, -1, _PER)
        job = dict(zip(observation.JOB, rows[:, -_JOB:].astype(np.float64).T, strict=True))
        column = {name: each[:, :, number] for number, name in enumerate(observation.OPERATOR)}
        current = np.ones((batch, len(flow.operators)), dtype=np.int64)
        current[:, self._tunable] = np.clip(np.rint(column["parallelism"] * flow.max_parallelism), 1, self.most)
        measured = np.where(column["true_rate"] > 0, column["true_rate"], 1.0)
        rate = self._whole(column["inflow"]) * np.array(flow.inflow)
        rate[:, list(flow.sources)] = job["offered"][:, None] * flow.nominal
        quantities = {
            "processing_capability": self._whole(measured) * self._rates,
            "input_rate": rate,
            "resource_load": self._whole(column["busy"]),
            "selectivity": np.tile(self._out, (batch, 1)),
            "back_pressure": self._whole(column["blocked"]),
            "queue": self._whole(column["queued"]),
        }
        shared = {
            "rate_change": job["offered_change"],
            "lag": np.sqrt(np.maximum(job["lag"], 0.0)),
            "latency": np.log1p(np.maximum(job["latency"], 0.0) * 60.0) / 4.0,
            "downtime": job["restarting"],
        }
        quantities |= {name: np.repeat(value[:, None], current.shape[1], axis=1) for name, value in shared.items()}
        return operators.describe(
            names=tuple(one.name for one in flow.operators),
            edges=flow.pairs,
            fixed=self._fixed,
            current=current,
            quantities=quantities,
            max_parallelism=flow.max_parallelism,
            ways=[edge.selectivity for edge in flow.edges],
        )

    def proposed(self, schemes: I64) -> I64:
        """Schemes (..., n) as the env's actions (..., t), indices from 0."""
        found: I64 = np.minimum(schemes[..., self._tunable], self.most) - 1
        return found

    def _whole(self, values: F64) -> F64:
        """(B, t) -> (B, n), zero for sources."""
        found = np.zeros((len(values), len(self.flow.operators)))
        found[:, self._tunable] = values
        return found


def of(worlds: Worlds) -> Flows:
    """The dataflow of these worlds. Raises InvalidInput for another env, NotBuilt for its forms that the agent does not read."""
    env: Any = worlds.make_one()
    domain = getattr(env.unwrapped, "domain", None)
    env.close()
    if isinstance(domain, Mixed | GraphParallelism) or getattr(domain, "action", "levels") != "levels":
        raise NotBuilt(
            f"lastream on {worlds.env} with graph observations or a relative `action`",
            expected="one query, flat observations, actions that are levels",
            cure="Leave the option out, or train with ppo.",
        )
    if not isinstance(domain, StreamParallelism):
        raise InvalidInput(
            f"lastream on {worlds.env}",
            given=worlds.env,
            expected="rlaas/StreamParallelism-v1 or rlaas/StreamParallelism-wordcount-v1",
            cure="Train with ppo, or take the agent itself: `from rlaas.stream import StreamProcessingRLAgent`.",
        )
    most = domain.flow.max_parallelism
    if domain.max_total is not None:
        most = min(most, domain.max_total - len(domain.flow.tunable) + 1)
    return Flows(domain.flow, most=most)
