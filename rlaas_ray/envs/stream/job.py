"""One dataflow as an environment: spaces, options and one control interval around the physics.

Made by env.py. Holds no state: dataflow, trace and options are fixed when it is made. Never draws but through its streams.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np

from rlaas_ray.envs import modes, philox, vector
from rlaas_ray.envs.stream import model, observation, reward, traces
from rlaas_ray.envs.stream.graph import Dataflow
from rlaas_ray.errors import InvalidInput, nearest
from rlaas_ray.specs.arrays import F64, I64, Array

START = 8
DOWNTIME_S = 10.0
ACTIONS = ("levels", "delta", "scale")
DELTAS = (-2, -1, 0, 1, 2)  # instances more
SCALES = (0.5, 0.8, 1.0, 1.25, 2.0)  # times as many; down is rounded down, up is rounded up


class StreamParallelism:
    """The domain (vector.Domain) of one dataflow; see docs/stream.md for its options."""

    reported: tuple[str, ...] = ("objectives", "cost")

    def __init__(
        self,
        flow: Dataflow,
        *,
        mode: str | None = None,
        weights: modes.Given | None = None,
        trace: str = traces.KINDS[0],
        downtime: float = DOWNTIME_S,
        skew: float | Mapping[str, float] = 0.0,
        action: str = ACTIONS[0],
        max_total: int | None = None,
    ) -> None:
        self.flow = flow
        self.mode = "balanced" if mode is None else mode
        self.weights = reward.weights(self.mode, given=weights)
        self.trace = traces.trace(trace, flow=flow)
        self.restart_s = _downtime(downtime) + sum(one.state_gb for one in flow.operators)
        self.skew = _skew(skew, flow=flow)
        self.action, self.max_total = _form(action), _total(max_total, flow=flow)
        self.graph_nodes = 0
        self.objectives, self.metadata = reward.OBJECTIVES, reward.METADATA
        choices = flow.max_parallelism if action == ACTIONS[0] else len(DELTAS)
        self.action_space: gymnasium.Space[Any] = gymnasium.spaces.MultiDiscrete([choices] * len(flow.tunable))

    @property
    def observation_space(self) -> gymnasium.Space[Any]:
        """Flat numbers, or the graph's entries; under `max_total` a dict that holds `action_mask` as well."""
        graph = observation.graph_space(self.graph_nodes).spaces if self.graph_nodes else {}
        if self.max_total is None:
            return gymnasium.spaces.Dict(graph) if graph else observation.flat_space(self.flow)
        mask = gymnasium.spaces.Box(0, 1, (len(self._mask()),), np.int8)
        return gymnasium.spaces.Dict((graph or {"job": observation.flat_space(self.flow)}) | {"action_mask": mask})

    def check(self, action: Any) -> Array:
        """Int64 (B, k), indices from 0. Raises InvalidInput."""
        return checked(action, sizes=self.action_space.nvec)  # type: ignore[attr-defined]

    def reset(self, streams: philox.Streams) -> tuple[vector.State, Any, dict[str, Any]]:
        """Eight instances everywhere, empty queues, nothing measured; the offered rate is what step 0 starts from."""
        batch, count = len(streams.seed), len(self.flow.operators)
        weather, zero = traces.start(streams), np.zeros(batch)
        t = np.zeros(batch, np.int64)
        offered = _summed(traces.rates(self.trace, weather, t=t.astype(np.uint32)))
        start = min(START, self.flow.max_parallelism)
        state: vector.State = {
            "t": t,
            "count": self._granted(np.full((batch, len(self.flow.tunable)), start, np.int64)),
            "down_s": zero.copy(),
            "phase": weather.phase,
            "noise": weather.noise,
            "burst": weather.burst,
            "offered": offered,
            "offered_before": offered.copy(),
        }
        state |= {name: np.zeros((batch, count)) for name in ("queue", "true_rate", "busy", "blocked", "into")}
        state |= {name: zero.copy() for name in ("lag_s", "latency_s", "served")}
        return state, self.observe(state), {"objectives": np.zeros((batch, 5)), "cost": np.zeros((batch, 1))}

    def step(self, state: vector.State, action: Array, *, streams: philox.Streams) -> vector.Step:
        """Set the parallelism, run ten seconds, measure. Truncated after 180 steps, never terminated."""
        t = state["t"].astype(np.uint32)
        before = traces.Weather(phase=state["phase"], noise=state["noise"], burst=state["burst"])
        weather = traces.advance(before, streams, t=t)
        rates = traces.rates(self.trace, weather, t=t)
        after, seen = self.run(state, count=self._count(state, action), rates=rates)
        after |= {"phase": weather.phase, "noise": weather.noise, "burst": weather.burst}
        info: dict[str, Any] = {"objectives": reward.objectives(seen), "cost": reward.cost(seen)}
        worth = reward.reward(self.mode, weight=self.weights, seen=seen)
        ended = np.zeros(len(t), np.bool_)
        cut = after["t"] >= observation.STEPS
        return after, self.observe(after), worth, info["cost"], ended, cut, info

    def run(self, state: vector.State, *, count: I64, rates: F64) -> tuple[vector.State, reward.Measures]:
        """One interval at counts (B, k) and rates (B, s): the state after it (without the trace's part), and its measures."""
        rescaled = (count != state["count"]).any(axis=1)
        down_s = np.where(rescaled, self.restart_s, state["down_s"])
        passed = model.interval(
            self.flow, queue=state["queue"], count=count, rates=rates, down_s=down_s, skew=self.skew
        )
        offered, served = _summed(rates), model.served(self.flow, passed)
        lag = model.lag(self.flow, passed)
        lag_s = np.divide(lag, offered, out=np.where(lag > 0.0, model.MAX_LATENCY_S, 0.0), where=offered > 0.0)
        latency_s = model.latency_s(self.flow, passed)
        after = state | {
            "t": state["t"] + 1,
            "count": count,
            "down_s": passed.down_s,
            "offered_before": state["offered"],
            "offered": offered,
            "queue": passed.queue,
            "true_rate": self._true_rate(state, count=count, passed=passed),
            "busy": _share(passed.processed, of=passed.could),
            "blocked": passed.blocked,
            "into": model.inflow(self.flow, passed, rates=rates),
            "lag_s": lag_s,
            "latency_s": latency_s,
            "served": served,
        }
        seen = reward.Measures(
            offered=offered,
            served=served,
            lag_s=lag_s,
            latency_s=latency_s,
            in_flight=model.in_flight(self.flow, passed),
            instances=count.sum(axis=1).astype(np.float64),
            operators=len(self.flow.tunable),
            max_parallelism=self.flow.max_parallelism,
            rescaled=rescaled.astype(np.float64),
        )
        return after, seen

    def observe(self, state: vector.State) -> Any:
        """The observation of a state, in the form of `observation_space`."""
        graph = observation.graph(self.flow, state, nodes=self.graph_nodes) if self.graph_nodes else None
        if self.max_total is None:
            return graph if graph is not None else observation.flat(self.flow, state)
        seen: dict[str, Any] = dict(graph) if graph is not None else {"job": observation.flat(self.flow, state)}
        seen["action_mask"] = np.repeat(self._mask()[None], len(state["t"]), axis=0)
        return seen

    def draw(self, state: vector.State) -> Array:
        """The dataflow with its load, see picture.py."""
        from rlaas_ray.envs.stream import picture  # noqa: PLC0415 - matplotlib is only for those who look

        return picture.draw(self.flow, state)

    def _count(self, state: vector.State, action: Array) -> I64:
        chosen: I64 = action.astype(np.int64)
        choices = moves(state["count"], form=self.action, most=self.flow.max_parallelism)
        if choices is None:
            return self._granted(chosen + 1)
        return self._granted(np.take_along_axis(choices, chosen[..., None], axis=2)[..., 0])

    def _granted(self, wanted: I64) -> I64:
        """What a cluster of `max_total` slots gives: all, or one instance each and the rest in proportion, rounded down."""
        if self.max_total is None:
            return wanted
        spare = self.max_total - wanted.shape[1]
        beyond = wanted - 1
        asked = np.maximum(beyond.sum(axis=1), 1)[:, None]
        return np.where(asked > spare, beyond * spare // asked, beyond) + 1

    def _mask(self) -> Array:
        """Of each entry's values, those that fit when every other operator has one instance; all of a relative form."""
        assert self.max_total is not None
        entries, choices = len(self.flow.tunable), int(self.action_space.nvec[0])  # type: ignore[attr-defined]
        most = self.max_total - entries + 1 if self.action == ACTIONS[0] else choices
        return np.tile(np.arange(choices) < most, entries).astype(np.int8)

    def _true_rate(self, state: vector.State, *, count: I64, passed: model.Interval) -> F64:
        """(B, n) records/s of one instance while it is busy, as last measured: without records nothing is known."""
        found: F64 = state["true_rate"].copy()
        for entry, one in enumerate(self.flow.tunable):
            now = passed.capacity[:, one] / count[:, entry]
            found[:, one] = np.where(passed.processed[:, one] > 0.0, now, found[:, one])
        return found


class GraphParallelism(StreamParallelism):
    """The same job seen as a graph, padded to eight nodes, or to as many as it has."""

    def __init__(self, flow: Dataflow, **options: Any) -> None:
        super().__init__(flow, **options)
        self.graph_nodes = max(observation.GRAPH_NODES, len(flow.operators))


def checked(action: Any, *, sizes: Array) -> I64:
    """Int64 (B, k) below `sizes` (k,). Raises InvalidInput."""
    given = np.asarray(action)
    whole = given.ndim == 2 and given.shape[1] == len(sizes) and given.dtype.kind in "iu"
    if not whole or (given < 0).any() or (given >= sizes).any():
        raise InvalidInput(
            "action of StreamParallelism",
            given=given.tolist() if given.size <= 2 * len(sizes) else (given.shape, str(given.dtype)),
            expected=f"(B, {len(sizes)}) ints below {[int(one) for one in sizes]}",
            cure="Index i of levels is i + 1 instances; sample from the action space to see one.",
        )
    return given.astype(np.int64)


def _summed(rates: F64) -> F64:
    total = rates[:, 0].copy()
    for one in range(1, rates.shape[1]):
        total += rates[:, one]
    return total


def _share(part: F64, *, of: F64) -> F64:
    known = np.isfinite(of) & (of > 0.0)
    found: F64 = np.divide(part, of, out=np.zeros_like(part), where=known)
    return found


def moves(count: I64, *, form: str, most: int) -> I64 | None:
    """(B, k, 5) the counts that each choice of a relative form leads to from counts (B, k); None for levels."""
    found: F64
    if form == "delta":
        found = (count[..., None] + np.asarray(DELTAS)).astype(np.float64)
    elif form == "scale":
        scaled = count[..., None] * np.asarray(SCALES)
        found = np.where(np.asarray(SCALES) > 1.0, np.ceil(scaled), np.floor(scaled))
    else:
        return None
    return np.clip(found, 1, most).astype(np.int64)


def _form(action: str) -> str:
    if action not in ACTIONS:
        raise InvalidInput("action", given=action, expected=", ".join(ACTIONS), cure=nearest(action, list(ACTIONS)))
    return action


def _downtime(seconds: float) -> float:
    if not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidInput(
            "downtime",
            given=seconds,
            expected="seconds, at least 0",
            cure="10 is the default; an engine may take 1 to 3.",
        )
    return float(seconds)


def _total(slots: int | None, *, flow: Dataflow) -> int | None:
    if slots is not None and slots < len(flow.tunable):
        raise InvalidInput(
            "max_total", given=slots, expected=f"at least {len(flow.tunable)} slots, one for each operator"
        )
    return slots


def _skew(share: float | Mapping[str, float], *, flow: Dataflow) -> tuple[float, ...]:
    names = [flow.operators[one].name for one in flow.tunable]
    given = dict(share) if isinstance(share, Mapping) else dict.fromkeys(names, share)
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InvalidInput("skew", given=unknown[0], expected=", ".join(names), cure=nearest(unknown[0], names))
    if not all(0.0 <= value <= 1.0 for value in given.values()):
        raise InvalidInput("skew", given=share, expected="shares of the hottest key, from 0 to 1")
    return tuple(float(given.get(name, 0.0)) for name in names)
