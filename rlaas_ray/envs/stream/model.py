"""The physics of one control interval: ten substeps of a fluid dataflow with bounded buffers, back-pressure and restarts.

Called by env.py, the references and the optimiser's problem. Pure: operators are looped, environments are the vector axis. Draws
nothing, and knows neither reward nor trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.stream.graph import Dataflow, capacity
from rlaas_ray.specs.arrays import F64, I64

SUBSTEPS = 10
INTERVAL_S = 10.0
MAX_LATENCY_S = 600.0
HOP_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Interval:
    """What happened in one control interval, n operators. Records unless said otherwise.

    queue (B, n) in front of each operator at the end (a source's column is its external lag), processed (B, n), could (B, n) what
    its instances could have processed, fresh (B, n) inflow of the last substep, blocked (B, n) share of substeps back-pressured,
    capacity (B, n) records/s, down_s (B,) of the restart that remains.
    """

    queue: F64
    processed: F64
    could: F64
    fresh: F64
    blocked: F64
    capacity: F64
    down_s: F64


def capacities(flow: Dataflow, count: I64, *, skew: tuple[float, ...]) -> F64:
    """(B, n) records/s of counts (B, k); infinite for sources. A hot key's operator gives at most what one instance can take."""
    found = np.full((len(count), len(flow.operators)), np.inf)
    for entry, number in enumerate(flow.tunable):
        operator = flow.operators[number]
        made = capacity(operator, count[:, entry].astype(np.float64))
        found[:, number] = np.minimum(made, operator.rate / skew[entry]) if skew[entry] > 0 else made
    return found


def buffers(flow: Dataflow, count: I64) -> F64:
    """(B, n) records that fit in front of each operator: one second of its instances; without bound for sources."""
    found = np.full((len(count), len(flow.operators)), np.inf)
    for entry, number in enumerate(flow.tunable):
        found[:, number] = count[:, entry] * flow.operators[number].rate
    return found


def interval(flow: Dataflow, *, queue: F64, count: I64, rates: F64, down_s: F64, skew: tuple[float, ...]) -> Interval:
    """Ten substeps of one second. queue (B, n), count (B, k), rates (B, s) records/s, down_s (B,) of restart still to go.

    In a substep sources append to their lag; then, from sinks to sources, each operator moves the least of what it has, what its
    instances can, and what fits behind it, so that a sink's room is free before its upstream asks for it.
    """
    batch, operators = queue.shape
    able, limit = capacities(flow, count, skew=skew), buffers(flow, count)
    have = [queue[:, one].copy() for one in range(operators)]
    cap, fits = [able[:, one].copy() for one in range(operators)], [limit[:, one].copy() for one in range(operators)]
    offered = [rates[:, one].copy() for one in range(rates.shape[1])]
    moved, could, blocked = ([np.zeros(batch) for _ in range(operators)] for _ in range(3))
    fresh, free = ([np.zeros(batch) for _ in range(operators)] for _ in range(2))
    ways = [[(e, edge) for e, edge in enumerate(flow.edges) if edge.source == one] for one in range(operators)]
    for _ in range(SUBSTEPS):
        up = 1.0 - np.minimum(down_s, 1.0)
        down_s = np.maximum(down_s - 1.0, 0.0)
        fresh = [np.zeros(batch) for _ in range(operators)]
        for number, one in enumerate(flow.sources):
            have[one] += offered[number]
        for one in reversed(flow.order):
            source = flow.operators[one].source
            can = np.where(up > 0.0, have[one], 0.0) if source else cap[one] * up
            flow_out = np.minimum(have[one], can)
            if ways[one]:
                room = np.full(batch, np.inf)
                for way, edge in ways[one]:
                    np.minimum(room, free[edge.target] * (flow.shares[way] / edge.selectivity), out=room)
                blocked[one] += room < flow_out
                flow_out = np.minimum(flow_out, np.maximum(room, 0.0))
                for _, edge in ways[one]:
                    sent = edge.selectivity * flow_out
                    have[edge.target] += sent
                    fresh[edge.target] += sent
            have[one] -= flow_out
            free[one] = fits[one] - have[one]  # before any input sends: each has its share of it, whoever comes first
            moved[one] += flow_out
            could[one] += can
    return Interval(
        queue=np.stack(have, axis=1),
        processed=np.stack(moved, axis=1),
        could=np.stack(could, axis=1),
        fresh=np.stack(fresh, axis=1),
        blocked=np.stack(blocked, axis=1) / SUBSTEPS,
        capacity=able,
        down_s=down_s,
    )


def latency_s(flow: Dataflow, passed: Interval) -> F64:
    """(B,) how long a record that comes now will take: lag, queues beyond one substep's transit, one service each, hops.

    The inflow of the last substep is taken off each queue: it is the discretisation's own transit, not a wait.
    """
    found = _wait(lag(flow, passed), rate=served(flow, passed)) + HOP_S * flow.hops
    for one in flow.tunable:
        excess = np.maximum(passed.queue[:, one] - passed.fresh[:, one], 0.0)
        found = found + _wait(excess, rate=passed.processed[:, one] / INTERVAL_S) + 1.0 / flow.operators[one].rate
    return np.minimum(found, MAX_LATENCY_S)


def lag(flow: Dataflow, passed: Interval) -> F64:
    """(B,) records that wait outside, all sources together."""
    return _column_sum(passed.queue, of=flow.sources)


def served(flow: Dataflow, passed: Interval) -> F64:
    """(B,) records/s that entered, all sources together."""
    return _column_sum(passed.processed, of=flow.sources) / INTERVAL_S


def in_flight(flow: Dataflow, passed: Interval) -> F64:
    """(B,) records that wait in front of the operators beyond one substep's transit, without the lag."""
    found = np.zeros(len(passed.queue))
    for one in flow.tunable:
        found += np.maximum(passed.queue[:, one] - passed.fresh[:, one], 0.0)
    return found


def inflow(flow: Dataflow, passed: Interval, *, rates: F64) -> F64:
    """(B, n) records/s that arrived in front of each operator; what a source was offered."""
    found = np.zeros_like(passed.queue)
    for number, one in enumerate(flow.sources):
        found[:, one] = rates[:, number]
    for edge in flow.edges:
        found[:, edge.target] += edge.selectivity * passed.processed[:, edge.source] / INTERVAL_S
    return found


def _column_sum(values: F64, *, of: tuple[int, ...]) -> F64:
    total = values[:, of[0]].copy()
    for one in of[1:]:
        total += values[:, one]
    return total


def _wait(records: F64, *, rate: F64) -> F64:
    never = np.where(records > 0.0, MAX_LATENCY_S, 0.0)
    found: F64 = np.divide(records, rate, out=never, where=rate > 0.0)
    return found
