"""What is seen of a job: numbers of each operator and of the whole, flat or as a graph; and the same for people and agents.

Called by env.py; `operators_info` by agents that read operators by name. A pure function of the state, which it never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs.stream import model
from rlaas_ray.envs.stream.graph import Dataflow
from rlaas_ray.specs.arrays import F32, F64

STEPS = 180
OPERATOR = ("parallelism", "busy", "blocked", "queued", "inflow", "true_rate")
JOB = ("offered", "offered_change", "lag", "latency", "restarting", "step", "source_blocked")
NODE = (*OPERATOR, "sigma", "selectivity", "is_source", "is_sink")
GRAPH_NODES = 8
LAG_S, _LATENCY_S, _RESTART_S = 60.0, 60.0, 10.0
_HIGH = 64.0  # rates over nominal ones and restarts have no natural bound; more is cut off


def flat_space(flow: Dataflow) -> gymnasium.spaces.Box:
    """Of `flat`: OPERATOR of each tunable operator by turns, then JOB."""
    return gymnasium.spaces.Box(-_HIGH, _HIGH, (len(OPERATOR) * len(flow.tunable) + len(JOB),), np.float32)


def graph_space(nodes: int) -> gymnasium.spaces.Dict:
    """Of `graph`: padded to `nodes`."""
    return gymnasium.spaces.Dict(
        {
            "nodes": gymnasium.spaces.Box(-_HIGH, _HIGH, (nodes, len(NODE)), np.float32),
            "adjacency": gymnasium.spaces.Box(0.0, 1.0, (nodes, nodes), np.float32),
            "mask": gymnasium.spaces.Box(0.0, 1.0, (nodes,), np.float32),
            "job": gymnasium.spaces.Box(-_HIGH, _HIGH, (len(JOB),), np.float32),
        }
    )


def flat(flow: Dataflow, state: Mapping[str, Any]) -> F32:
    """(B, 6 k + 7)."""
    each, job = operators(flow, state), whole(flow, state)
    tunable = each[:, flow.tunable].reshape(len(job), -1)
    return _cut(np.concatenate((tunable, job), axis=1))


def graph(flow: Dataflow, state: Mapping[str, Any], *, nodes: int) -> dict[str, F32]:
    """Entries nodes (B, N, 10), adjacency (B, N, N) from source to target, mask (B, N), job (B, 7); padding is zero."""
    each, batch, count = operators(flow, state), len(state["t"]), len(flow.operators)
    fixed = np.zeros((count, 4))
    for number, one in enumerate(flow.operators):
        out = sum(edge.selectivity for edge in flow.edges if edge.source == number)
        fixed[number] = one.sigma, np.log1p(out), one.source, out == 0
    seen = np.zeros((batch, nodes, len(NODE)), np.float32)
    seen[:, :count, : len(OPERATOR)] = _cut(each)
    seen[:, :count, len(OPERATOR) :] = fixed
    adjacency, mask = np.zeros((batch, nodes, nodes), np.float32), np.zeros((batch, nodes), np.float32)
    for source, target in flow.pairs:
        adjacency[:, source, target] = 1.0
    mask[:, :count] = 1.0
    return {"nodes": seen, "adjacency": adjacency, "mask": mask, "job": _cut(whole(flow, state))}


def operators(flow: Dataflow, state: Mapping[str, Any]) -> F64:
    """(B, n, 6) of every operator. A source has parallelism 0, its queue is its lag over a minute of its rate."""
    batch = len(state["t"])
    seen = np.zeros((batch, len(flow.operators), len(OPERATOR)))
    limit = model.buffers(flow, state["count"])
    for number, one in enumerate(flow.operators):
        if one.source:
            queued = _over(state["queue"][:, number], state["into"][:, number] * LAG_S)
        else:
            entry = flow.tunable.index(number)
            seen[:, number, 0] = state["count"][:, entry] / flow.max_parallelism
            queued = state["queue"][:, number] / limit[:, number]
            seen[:, number, 5] = state["true_rate"][:, number] / one.rate
        seen[:, number, 1] = state["busy"][:, number]
        seen[:, number, 2] = state["blocked"][:, number]
        seen[:, number, 3] = np.minimum(queued, 1.0)
        seen[:, number, 4] = state["into"][:, number] / flow.inflow[number]
    return seen


def whole(flow: Dataflow, state: Mapping[str, Any]) -> F64:
    """(B, 7) of the job: JOB."""
    nominal = float(sum(flow.nominal))
    blocked = state["blocked"][:, flow.sources[0]]
    for one in flow.sources[1:]:
        blocked = np.maximum(blocked, state["blocked"][:, one])
    return np.stack(
        (
            state["offered"] / nominal,
            (state["offered"] - state["offered_before"]) / nominal,
            np.minimum(state["lag_s"] / LAG_S, 1.0),
            np.minimum(state["latency_s"] / _LATENCY_S, 1.0),
            state["down_s"] / _RESTART_S,
            state["t"] / STEPS,
            blocked,
        ),
        axis=1,
    )


def operators_info(flow: Dataflow, state: Mapping[str, Any], *, row: int = 0) -> list[dict[str, Any]]:
    """One row's operators for an agent that reads them by name; `flow.pairs` are its dependencies.

    Rates in records/s; `processing_capability` is the true rate of one instance as last measured, a source's is what it offers.
    """
    limit = model.buffers(flow, state["count"][row : row + 1])[0]
    found = []
    for number, one in enumerate(flow.operators):
        entry = None if one.source else flow.tunable.index(number)
        queue, measured = float(state["queue"][row, number]), float(state["true_rate"][row, number])
        found.append(
            {
                "name": one.name,
                "component_type": "spout" if one.source else "bolt",
                "processing_capability": one.rate if one.source or measured == 0.0 else measured,
                "input_rate": float(state["into"][row, number]),
                "resource_load": float(state["busy"][row, number]),
                "memory_usage": 0.0 if one.source else min(queue / float(limit[number]), 1.0),
                "selectivity": sum(edge.selectivity for edge in flow.edges if edge.source == number),
                "instance_count": 1 if entry is None else int(state["count"][row, entry]),
            }
        )
    return found


def _over(value: F64, by: F64) -> F64:
    found: F64 = np.divide(value, by, out=np.where(value > 0.0, 1.0, 0.0), where=by > 0.0)
    return found


def _cut(seen: F64) -> F32:
    return np.clip(seen, -_HIGH, _HIGH).astype(np.float32)
