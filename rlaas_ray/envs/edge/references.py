"""References of edge placement: the greedy rule with hindsight over its settings, and a bound that nothing reaches.

Scored by scoring.py. They cannot serve: one knows how the episode ended, the other never pays for a start.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.edge import env, model, rules
from rlaas_ray.specs.arrays import F64

TARGETS, GAINS = (0.4, 0.5, 0.6, 0.7), (4.0, 8.0, 16.0)


def hindsight(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """Of each episode the best of twelve settings of greedy_latency: returns (episodes,), mean costs (episodes, 1)."""
    params = env.domain(mode=mode, **config).params
    runs = [
        follow(
            params,
            rules.Autoscaler(instance=params.instance, target=target, gain=gain, nearest=True),
            seed=seed,
            episodes=episodes,
        )
        for target, gain in itertools.product(TARGETS, GAINS)
    ]
    returns, costs = (np.stack([run[k] for run in runs]) for k in (0, 1))
    best, row = returns.argmax(axis=0), np.arange(episodes)
    return returns[best, row], costs[best, row]


def bounded(*, mode: str, seed: int, episodes: int, config: Mapping[str, Any]) -> tuple[F64, F64]:
    """The bound of the same episodes, and no costs (episodes, 0); demand does not depend on actions."""
    params = env.domain(mode=mode, **config).params
    streams = philox.streams(seed, num_envs=episodes)
    state, _, _ = model.reset_batch(params, streams)
    total = np.zeros(episodes)
    idle = np.zeros(_shape(params, episodes), np.int64)
    for _ in range(params.instance.steps):
        total -= least(params, state["rate"])
        state, _, _, _, _, _, _ = model.step_batch(params, state, action=idle, streams=streams)
    return total, np.zeros((episodes, 0))


def least(params: model.Params, rate: F64) -> F64:
    """What a step costs at least: nearest nodes without queues, cheapest cores for the fewest pods. rate (B, S, Z) -> (B,)."""
    known, instance = params.known, params.instance
    zones = rate.sum(axis=1)
    demand = rate.sum(axis=2)
    total = np.maximum(demand.sum(axis=1), 1e-9)
    near = (zones * params.rtt.min(axis=1)).sum(axis=1) + (demand * (1000.0 / params.rate)).sum(axis=1)
    pods = np.ceil(demand / (model.SPILL * params.rate) - 1e-9)
    spend = params.price.min() * (pods * known.cpu).sum(axis=1) / (params.price * known.cpu_capacity).sum()
    return np.asarray(params.weights[0] * near / (total * instance.reference_ms) + params.weights[1] * spend)


def follow(params: model.Params, rule: rules.Autoscaler, *, seed: int, episodes: int) -> tuple[F64, F64]:
    """Returns and mean costs of a rule on the first episodes of a seed's worlds."""
    streams = philox.streams(seed, num_envs=episodes)
    state, seen, _ = model.reset_batch(params, streams)
    memory = np.zeros((episodes, rule.state_size), np.float32)
    total, spent = np.zeros(episodes), np.zeros((episodes, 1))
    for _ in range(params.instance.steps):
        wishes, memory = rule.step(seen, memory)  # type: ignore[arg-type]
        number = np.where(state["mask"] > 0, wishes, -np.inf).argmax(axis=1)
        state, seen, reward, cost, _, _, _ = model.step_batch(params, state, action=number, streams=streams)
        total += reward
        spent += cost / params.instance.steps
    return total, spent


def _shape(params: model.Params, episodes: int) -> tuple[int, ...]:
    return (episodes,) if params.action == "discrete" else (episodes, len(params.instance.services))
