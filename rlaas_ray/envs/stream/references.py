"""References of StreamParallelism: an oracle that sees the rates to come, and a bound without lag, latency or restarts.

Scored by scoring.py. They cannot serve: nobody knows the rates of the next ten minutes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.stream import model, observation, reward, traces
from rlaas_ray.envs.stream.document import flow_of
from rlaas_ray.envs.stream.graph import Dataflow
from rlaas_ray.envs.stream.job import StreamParallelism
from rlaas_ray.specs.arrays import F64, I64

HORIZONS, MARGINS, SAVINGS = (6, 18, 60), (1.02, 1.15), (0.2, 0.4)
SHORT_STEPS, DRAIN_S = 3, 60.0
PLANS = tuple(itertools.product(HORIZONS, MARGINS, SAVINGS))


def oracle(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any], query: str) -> tuple[F64, F64]:
    """Returns (episodes,) and mean costs (episodes, 1): of twelve plans that see the trace, the best of each episode."""
    job = _job(mode, config=config, query=query)
    streams = philox.streams(seed, num_envs=episodes)
    rates = traces.path(job.trace, streams, steps=observation.STEPS)
    plans = len(PLANS)
    many = streams.take(np.tile(np.arange(episodes), plans))
    peaks = [np.concatenate([_peak(rates, t, steps=plan[0]) for plan in PLANS]) for t in range(observation.STEPS)]
    near = [np.tile(_peak(rates, t, steps=SHORT_STEPS), (plans, 1)) for t in range(observation.STEPS)]
    margin, saving = (np.repeat([plan[k] for plan in PLANS], episodes) for k in (1, 2))
    state, _, _ = job.reset(many)
    total, late = np.zeros(len(margin)), np.zeros(len(margin))
    for t in range(observation.STEPS):
        wanted = _planned(job.flow, state, peak=peaks[t] * margin[:, None])
        short = (_carried(job.flow, state["count"]) < _inflows(job.flow, near[t])).any(axis=1)
        saves = wanted.sum(axis=1) <= (1.0 - saving) * state["count"].sum(axis=1)
        count = np.where((short | saves)[:, None], wanted, state["count"])
        state, _, earned, cost, _, _, _ = job.step(state, count - 1, streams=many)
        total, late = total + earned, late + cost[:, 0]
    returns = total.reshape(plans, episodes)
    best = returns.argmax(axis=0), np.arange(episodes)
    return returns[best], late.reshape(plans, episodes)[best][:, None] / observation.STEPS


def bound(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any], query: str) -> tuple[F64, F64]:
    """What the same episodes were worth if each step's least counts carried its rate at once; no costs (episodes, 0)."""
    job = _job(mode, config=config, query=query)
    rates = traces.path(job.trace, philox.streams(seed, num_envs=episodes), steps=observation.STEPS)
    total, zero = np.zeros(episodes), np.zeros(episodes)
    quick = sum(1.0 / job.flow.operators[one].rate for one in job.flow.tunable) + model.HOP_S * job.flow.hops
    # Latency counts in LaStream's formula from 0 on; the other modes' bound leaves it out, as the page does.
    least_s = quick if mode == reward.LASTREAM else 0.0
    for t in range(observation.STEPS):
        seen = reward.Measures(
            offered=zero + 1.0,
            served=zero + 1.0,
            lag_s=zero,
            latency_s=zero + least_s,
            in_flight=zero,
            instances=job.flow.least(_inflows(job.flow, rates[:, t])).sum(axis=1).astype(np.float64),
            operators=len(job.flow.tunable),
            max_parallelism=job.flow.max_parallelism,
            rescaled=zero,
        )
        total = total + reward.reward(mode, weight=job.weights, seen=seen)
    return total, np.zeros((episodes, 0))


def _job(mode: str, *, config: Mapping[str, Any], query: str) -> StreamParallelism:
    """The job itself; how it would be seen or set by an agent does not matter here."""
    left = {"query", "graph_obs", "backend", "action", "max_total", "mode"}
    options = {name: value for name, value in config.items() if name not in left}
    return StreamParallelism(flow_of(config.get("query", query)), mode=mode, **options)


def _peak(rates: F64, t: int, *, steps: int) -> F64:
    """(B, s) the highest rate of each source in the steps from t on."""
    found: F64 = rates[:, t : t + steps].max(axis=1)
    return found


def _planned(flow: Dataflow, state: Mapping[str, Any], *, peak: F64) -> I64:
    """(B, k) the least counts for the peak and for the lag within a minute."""
    lag = state["queue"][:, flow.sources]
    return flow.least(_inflows(flow, peak + lag / DRAIN_S))


def _inflows(flow: Dataflow, rates: F64) -> F64:
    """(B, k) records/s into the tunable operators when the sources give `rates` (B, s)."""
    found = np.zeros((len(rates), len(flow.tunable)))
    for number in range(rates.shape[1]):
        alone = flow.inflow_at([1.0 if one == number else 0.0 for one in range(rates.shape[1])])
        found += rates[:, number, None] * np.asarray([alone[one] for one in flow.tunable])
    return found


def _carried(flow: Dataflow, count: I64) -> F64:
    """(B, k) capacity of counts."""
    found: F64 = flow.capacities[np.arange(count.shape[1])[None], count - 1]
    return found
