"""query="mixed": each episode draws one of the seven dataflows, seen as a graph.

Made by env.py. Rows of the same dataflow are stepped together, each with its own physics; states are padded to the widest.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import philox, vector
from rlaas_ray.envs.stream import job, observation
from rlaas_ray.envs.stream.queries import QUERIES
from rlaas_ray.errors import NotBuilt
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

_DRAW = 12  # purpose of the generator
_COUNT, _PER_OPERATOR = "count", ("queue", "true_rate", "busy", "blocked", "into")

Rows = I64


class Mixed:
    """The domain (vector.Domain). Three entries an action; a dataflow ignores those beyond its own operators."""

    reported: tuple[str, ...] = ("objectives", "cost")

    def __init__(self, *, max_total: int | None = None, **options: Any) -> None:
        if max_total is not None:
            raise NotBuilt(
                "max_total with query='mixed'", given=max_total, cure="Name one query: a mask must fit its operators."
            )
        self.jobs = [job.GraphParallelism(flow, **options) for flow in QUERIES.values()]
        self.objectives, self.metadata = self.jobs[0].objectives, self.jobs[0].metadata
        self.nodes = observation.GRAPH_NODES
        self.entries = max(len(one.flow.tunable) for one in self.jobs)
        choices = int(self.jobs[0].action_space.nvec[0])  # type: ignore[attr-defined]
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.MultiDiscrete([choices] * self.entries)
        self.observation_space: gymnasium.Space[Any] = observation.graph_space(self.nodes)

    def check(self, action: Any) -> Array:
        """Int64 (B, 3), indices from 0. Raises InvalidInput."""
        return job.checked(action, sizes=self.action_space.nvec)  # type: ignore[attr-defined]

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Any, dict[str, Any]]:
        """A dataflow for each row, then its own start."""
        batch, one = len(streams.seed), np.zeros(1, np.uint32)
        words = streams.words(one, t=np.zeros(batch, np.uint32), purpose=one + np.uint32(_DRAW))
        query = (philox.u01(words)[:, 0] * len(self.jobs)).astype(np.int64)
        state: vector.State = {"query": query}
        seen: dict[str, Any] = {}
        for number, rows in self._groups(query):
            part, looked, _ = self.jobs[number].reset(streams.take(rows))
            self._put(state, part, rows=rows, batch=batch)
            _fill(seen, looked, rows=rows, batch=batch)
        return state, seen, {"objectives": np.zeros((batch, 5)), "cost": np.zeros((batch, 1))}

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """Each row by its own dataflow."""
        batch = len(state["query"])
        after: vector.State = {"query": state["query"]}
        seen: dict[str, Any] = {}
        info: dict[str, Any] = {}
        reward: F64 = np.zeros(batch)
        cut: Bool = np.zeros(batch, np.bool_)
        for number, rows in self._groups(state["query"]):
            one = self.jobs[number]
            part, looked, reward[rows], _, _, cut[rows], told = one.step(
                self._take(state, rows=rows, number=number),
                action[rows, : len(one.flow.tunable)],
                streams=streams.take(rows),
            )
            self._put(after, part, rows=rows, batch=batch)
            _fill(seen, looked, rows=rows, batch=batch)
            _fill(info, told, rows=rows, batch=batch)
        return after, seen, reward, info["cost"], np.zeros(batch, np.bool_), cut, info

    def draw(self, state: vector.State) -> Array:
        """The dataflow of the first row, see picture.py."""
        number = int(state["query"][0])
        return self.jobs[number].draw(self._take(state, rows=np.zeros(1, np.int64), number=number))

    def _groups(self, query: I64) -> list[tuple[int, Rows]]:
        found = [(number, np.flatnonzero(query == number)) for number in range(len(self.jobs))]
        return [(number, rows) for number, rows in found if len(rows)]

    def _take(self, state: vector.State, *, rows: Rows, number: int) -> vector.State:
        flow = self.jobs[number].flow
        widths = {_COUNT: len(flow.tunable)} | dict.fromkeys(_PER_OPERATOR, len(flow.operators))
        return {
            name: value[rows, : widths[name]] if name in widths else value[rows]
            for name, value in state.items()
            if name != "query"
        }

    def _put(self, into: vector.State, part: vector.State, *, rows: Rows, batch: int) -> None:
        widths = {_COUNT: self.entries} | dict.fromkeys(_PER_OPERATOR, self.nodes)
        for name, value in part.items():
            shape = (batch, widths[name]) if name in widths else (batch,)
            whole = into.setdefault(name, np.zeros(shape, value.dtype))
            if name in widths:
                whole[rows, : value.shape[1]] = value
            else:
                whole[rows] = value


def _fill(into: dict[str, Any], part: dict[str, Any], *, rows: Rows, batch: int) -> None:
    for name, value in part.items():
        into.setdefault(name, np.zeros((batch, *value.shape[1:]), value.dtype))[rows] = value
