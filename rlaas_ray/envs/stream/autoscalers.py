"""The scaling rules of the field as policies over the flat observation: DS2, DS2 with catch-up, thresholds, Dhalion's.

Called by baselines.py. Each waits for one whole interval after a change, for which it remembers the counts it saw; it sees what a
trained policy sees and knows the dataflow's shape, which any operator of a job knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlaas_ray.envs.stream import job, observation
from rlaas_ray.envs.stream.graph import Dataflow
from rlaas_ray.errors import InvalidInput
from rlaas_ray.policies import ds2, heads
from rlaas_ray.specs.arrays import F32, F64, I64

_FLOAT32 = 1e-6  # an observed rate is this uncertain (relative); it must not cost an instance
CARRY, SAVE, LAG_S = 1.02, 0.3, 5.0  # of ds2_catchup
MARGIN, DRAIN_S = 1.2, 120.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """A batch of flat observations in natural units.

    count, busy, blocked, true_rate (B, k) of the tunable operators; offered (B, s) records/s; lag_s,
    restarting, source_blocked (B,).
    """

    count: I64
    busy: F64
    blocked: F64
    true_rate: F64
    offered: F64
    lag_s: F64
    restarting: F64
    source_blocked: F64


Rule = Callable[[Dataflow, Seen], I64]  # counts that the rule wants (B, k)


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """A rule as a policy (builtin.Remembering): holds until an interval has passed since the last change."""

    flow: Dataflow
    rule: Rule
    form: str = job.ACTIONS[0]

    @property
    def head(self) -> heads.Head:
        """A point: indices of the action."""
        return heads.Point(entries=len(self.flow.tunable))

    @property
    def state_size(self) -> int:
        """The counts seen before."""
        return len(self.flow.tunable)

    def distribution(self, observations: F32) -> F32:
        """The first decision of an episode: hold."""
        return self.step(observations, np.zeros((len(observations), self.state_size), np.float32))[0]

    def step(self, observations: F32, state: F32) -> tuple[F32, F32]:
        """Indices (n, k) and the counts seen (n, k)."""
        seen = read(self.flow, observations)
        settled = (state == seen.count).all(axis=1) & (seen.restarting <= 0.0) & (seen.true_rate > 0.0).all(axis=1)
        wanted = np.where(settled[:, None], self.rule(self.flow, seen), seen.count)
        return indices(wanted, seen=seen, flow=self.flow, form=self.form), seen.count.astype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """The same counts for ever; None holds what is there."""

    flow: Dataflow
    counts: tuple[int, ...] | None
    form: str = job.ACTIONS[0]

    @property
    def head(self) -> heads.Head:
        """A point: indices of the action."""
        return heads.Point(entries=len(self.flow.tunable))

    def distribution(self, observations: F32) -> F32:
        """Indices (n, k)."""
        seen = read(self.flow, observations)
        wanted = seen.count if self.counts is None else np.tile(np.asarray(self.counts), (len(seen.count), 1))
        return indices(wanted, seen=seen, flow=self.flow, form=self.form)


def read(flow: Dataflow, observations: F32) -> Seen:
    """Flat observations in natural units. Raises InvalidInput where they are of another dataflow or form."""
    entries, width = len(flow.tunable), len(observation.OPERATOR)
    size = width * entries + len(observation.JOB)
    if observations.shape[1] != size:
        raise InvalidInput(
            f"observation of a baseline for dataflow {flow.name!r}",
            given=f"{observations.shape[1]} numbers",
            expected=f"{size}, the flat observation of that dataflow",
            cure="Give the baseline the env's own `query`, and leave graph_obs out.",
        )
    wide = observations.astype(np.float64)
    each = wide[:, : width * entries].reshape(-1, entries, width)
    job = dict(zip(observation.JOB, wide[:, width * entries :].T, strict=True))
    rate = np.asarray([flow.operators[one].rate for one in flow.tunable])
    return Seen(
        count=np.rint(each[:, :, 0] * flow.max_parallelism).astype(np.int64),
        busy=each[:, :, 1],
        blocked=each[:, :, 2],
        true_rate=each[:, :, 5] * rate,
        offered=(job["offered"] * (1.0 - _FLOAT32))[:, None] * flow.nominal,
        lag_s=job["lag"] * observation.LAG_S,
        restarting=job["restarting"],
        source_blocked=job["source_blocked"],
    )


def indices(wanted: I64, *, seen: Seen, flow: Dataflow, form: str) -> F32:
    """Counts (B, k) as indices of the action's form; of a relative one, the choice that comes closest."""
    clipped = np.clip(wanted, 1, flow.max_parallelism)
    choices = job.moves(seen.count, form=form, most=flow.max_parallelism)
    index = clipped - 1 if choices is None else np.abs(choices - clipped[..., None]).argmin(axis=2)
    return index.astype(np.float32)


def ds2_rule(flow: Dataflow, seen: Seen, *, scale: F64 | float = 1.0, factor: float = 0.0) -> I64:
    """DS2's counts for `scale` times the offered rate."""
    batch, operators = len(seen.count), len(flow.operators)
    offered, processed = np.zeros((batch, operators)), np.zeros((batch, operators))
    instances = np.ones((batch, operators), np.int64)
    offered[:, flow.sources] = seen.offered * np.reshape(scale, (-1, 1))
    processed[:, flow.sources] = offered[:, flow.sources]
    processed[:, flow.tunable] = seen.true_rate * seen.count
    instances[:, flow.tunable] = seen.count
    output = np.stack([edge.selectivity * processed[:, edge.source] for edge in flow.edges], axis=1)
    found = ds2.parallelism(
        edges=flow.pairs, offered=offered, processed=processed, output=output, instances=instances, factor=factor
    )
    return found[:, flow.tunable]


def catch_up(flow: Dataflow, seen: Seen) -> I64:
    """DS2 for a fifth more than the rate, and the lag within two minutes; acts where it is short, lags behind, or saves much.

    With a lag it only grows: shrinking would cost a restart while records wait.
    """
    wanted = ds2_rule(flow, seen, scale=MARGIN + seen.lag_s / DRAIN_S)
    wanted = np.clip(wanted, 1, flow.max_parallelism)
    short = (ds2_rule(flow, seen, scale=CARRY) > seen.count).any(axis=1)
    behind = seen.lag_s > LAG_S
    saves = ~behind & (wanted.sum(axis=1) <= (1.0 - SAVE) * seen.count.sum(axis=1))
    grows = behind & (wanted > seen.count).any(axis=1)
    return np.where((short | saves | grows)[:, None], wanted, seen.count)


def thresholds(_: Dataflow, seen: Seen, *, high: float = 0.8, low: float = 0.4) -> I64:
    """A quarter more where an operator is busier than `high`, a quarter less where it is idler than `low`."""
    more, less = np.ceil(seen.count * 1.25), np.floor(seen.count * 0.75)
    return np.where(seen.busy > high, more, np.where(seen.busy < low, less, seen.count)).astype(np.int64)


def dhalion(_: Dataflow, seen: Seen) -> I64:
    """After Dhalion (Floratou et al., VLDB 2017): back-pressure scales the busiest up by what was lost; calm shrinks all."""
    lost = np.maximum(seen.blocked.max(axis=1), seen.source_blocked)
    busiest = np.arange(seen.count.shape[1]) == seen.busy.argmax(axis=1)[:, None]
    grown = 1.0 + np.minimum(lost / np.maximum(1.0 - lost, 1e-9), 1.0)
    up = np.where(busiest, np.ceil(seen.count * grown[:, None] - 1e-9), seen.count)
    calm = (lost <= 0.0) & (seen.lag_s < 2.0) & (seen.busy < 0.6).all(axis=1)
    down = np.where(calm[:, None], np.floor(seen.count * 0.8), seen.count)
    return np.where((lost > 0.05)[:, None], up, down).astype(np.int64)
