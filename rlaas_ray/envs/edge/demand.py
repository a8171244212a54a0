"""Demand of each service in each zone, requests/s: users that walk round the ring of zones, a Markov chain, or a trace.

Called by model.py: `start` makes the demand's part of the state, `after` the next step's. Every number comes from philox.py;
nothing here knows pods.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rlaas_ray.envs import philox
from rlaas_ray.envs.edge.config import Instance
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, U32

PURPOSE_START, PURPOSE_STEP, PURPOSE_CHAIN, PURPOSE_TRACE = 40, 41, 42, 43
PERIOD_S = 3600.0
_RESET = 1 << 31  # the counter's time of what is drawn when an episode starts
_WALK, _MEMORY, _NOISE = 1.0, 0.95, 0.15
_SWING = 0.5
LEVELS = (10.0, 30.0, 60.0)
LEVEL_ROWS = ((0.9, 0.1, 0.0), (0.05, 0.9, 0.05), (0.0, 0.1, 0.9))
FLIP, CROWD = 0.1, 0.9
State = dict[str, Any]


class Demand(Protocol):
    """A process of demand. `rate` is (B, S, Z) float64."""

    def start(self, streams: philox.Streams) -> State:
        """The demand's entries of the state, among them `rate` of the first step."""
        ...

    def after(self, state: State, *, streams: philox.Streams) -> State:
        """The same entries one step on; `state["t"]` is the new step."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Walking:
    """Zone share softmax(sin of the hour + an AR(1) field), total swinging by a half within the hour, phases by episode."""

    dt_s: float
    base: F64  # (S,)
    zones: int

    def start(self, streams: philox.Streams) -> State:
        """Phases are drawn, the field starts at 0."""
        count, services = len(streams.seed), len(self.base)
        t = np.full(count, _RESET, np.uint32)
        drawn = _drawn(streams, count=1 + services, t=t, purpose=PURPOSE_START)
        state = {
            "phase": drawn[:, 0].copy(),
            "phases": drawn[:, 1:].copy(),
            "field": np.zeros((count, self.zones)),
        }
        return state | {"rate": self._rate(state, turn=np.zeros(count))}

    def after(self, state: State, *, streams: philox.Streams) -> State:
        """Field' = 0.95 field + 0.15 N(0, 1)."""
        t = state["t"]
        drawn = _drawn(streams, count=2 * self.zones, t=t.astype(np.uint32), purpose=PURPOSE_STEP)
        radius = np.sqrt(-2.0 * np.log(drawn[:, : self.zones]))
        normal = radius * np.cos((2.0 * np.pi) * drawn[:, self.zones :])
        moved = {
            "phase": state["phase"],
            "phases": state["phases"],
            "field": _MEMORY * state["field"] + _NOISE * normal,
        }
        return moved | {"rate": self._rate(moved, turn=t * (self.dt_s / PERIOD_S))}

    def _rate(self, state: State, *, turn: F64) -> F64:
        around = np.arange(self.zones) / self.zones
        angle = (2.0 * np.pi) * ((turn + state["phase"])[:, None] - around)
        crowd = np.exp(_WALK * np.sin(angle) + state["field"])
        total = crowd[:, 0].copy()
        for zone in range(1, self.zones):
            total += crowd[:, zone]
        share = crowd / total[:, None]
        swing = np.sin((2.0 * np.pi) * (turn[:, None] + state["phases"]))
        wanted = self.base * (1.0 + _SWING * swing)
        return np.asarray(wanted[:, :, None] * share[:, None, :])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chain:
    """Three levels and two zones that flip: a Markov chain of six states, whose expectation is exact."""

    def start(self, streams: philox.Streams) -> State:
        """Level 0, the crowd in zone 0."""
        level = np.zeros(len(streams.seed), np.int64)
        return {"level": level, "crowd": level.copy(), "rate": chain_rate(level, level)}

    def after(self, state: State, *, streams: philox.Streams) -> State:
        """u0 picks the level by the row's cumulative sums, u1 below 0.1 flips the zone."""
        drawn = _drawn(streams, count=2, t=state["t"].astype(np.uint32), purpose=PURPOSE_CHAIN)
        reach = np.cumsum(np.asarray(LEVEL_ROWS), axis=1)[state["level"]]
        level = (drawn[:, :1] >= reach[:, :2]).sum(axis=1)
        crowd = np.where(drawn[:, 1] < FLIP, 1 - state["crowd"], state["crowd"])
        return {"level": level, "crowd": crowd, "rate": chain_rate(level, crowd)}


def chain_rate(level: Any, crowd: Any) -> F64:
    """Requests/s (B, 1, 2) of levels and crowded zones (B,): nine tenths of the demand are in the crowd's zone."""
    share = np.where(np.arange(2) == np.asarray(crowd)[:, None], CROWD, 1.0 - CROWD)
    return np.asarray((np.asarray(LEVELS)[np.asarray(level)][:, None] * share)[:, None, :])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Rates (T, S, Z) as they were measured. An episode starts where a whole one fits, drawn; a shorter trace starts over."""

    rates: F64
    steps: int

    def start(self, streams: philox.Streams) -> State:
        """`row` of the trace."""
        count, starts = len(streams.seed), max(len(self.rates) - self.steps, 1)
        t = np.full(count, _RESET, np.uint32)
        drawn = _drawn(streams, count=1, t=t, purpose=PURPOSE_TRACE)
        row = np.minimum((drawn[:, 0] * starts).astype(np.int64), starts - 1)
        return {"row": row, "rate": self.rates[row]}

    def after(self, state: State, *, streams: philox.Streams) -> State:
        """The next row."""
        row = (state["row"] + 1) % len(self.rates)
        return {"row": row, "rate": self.rates[row]}


def trace(given: Any, *, instance: Instance) -> Trace:
    """A trace from an array (T, S, Z), or the path of a Parquet file with columns step, service, zone, rate.

    Raises InvalidInput for another shape, for rates that are negative or not finite, and where a step is missing.
    """
    services, _, zones = instance.shape
    rates = _read(Path(given), instance=instance) if isinstance(given, str | Path) else np.asarray(given, np.float64)
    if rates.ndim != 3 or rates.shape[1:] != (services, zones) or len(rates) < 1:
        raise InvalidInput(
            "demand trace", given=rates.shape, expected=f"(steps, {services}, {zones})", cure="One rate each."
        )
    if not (np.isfinite(rates) & (rates >= 0.0)).all():
        raise InvalidInput(
            "demand trace", given="a missing, negative or infinite rate", expected="requests/s, 0 or more"
        )
    return Trace(rates=rates, steps=instance.steps)


def _read(path: Path, *, instance: Instance) -> F64:
    import pyarrow.parquet as pq

    services, _, zones = instance.shape
    try:
        columns = pq.read_table(path, columns=["step", "service", "zone", "rate"]).to_pydict()
    except (OSError, KeyError, ValueError) as error:
        raise InvalidInput(
            "demand trace",
            given=str(error),
            expected="a Parquet file with the columns step, service, zone, rate",
            cure="service is a name of the instance, zone and step count from 0, rate is in requests/s.",
        ) from None
    names = {service.name: k for k, service in enumerate(instance.services)}
    rates = np.full((max(columns["step"], default=-1) + 1, services, zones), np.nan)
    for step, service, zone, rate in zip(*columns.values(), strict=True):
        if service not in names or not 0 <= zone < zones or step < 0:
            raise InvalidInput(
                "demand trace",
                given=f"step {step}, service {service!r}, zone {zone}",
                expected=f"services {', '.join(names)}, zones 0 to {zones - 1}",
            )
        rates[step, names[service], zone] = rate
    return rates


def _drawn(streams: philox.Streams, *, count: int, t: U32, purpose: int) -> F64:
    """Uniforms (B, count)."""
    blocks: U32 = np.arange(-(-count // philox.WORDS_PER_BLOCK), dtype=np.uint32)
    words = streams.words(blocks, t=t, purpose=np.full(len(blocks), purpose, np.uint32))
    return philox.u01(words[:, :count])
