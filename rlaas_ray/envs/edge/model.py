"""The only physics of edge placement: routing with spill-over, queues, latency, reward, and one step of a batch.

Called by env.py, the baselines' references, the exact optimum and problem.py. Pure: a step copies what it changes. Knows no
framework. B rows, S services, N nodes, Z zones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rlaas_ray.envs import modes, philox
from rlaas_ray.envs.edge import config, demand, macro, moves, observation, queueing
from rlaas_ray.errors import InvalidInput
from rlaas_ray.specs.arrays import F64, Array

ROUTINGS = ("topology", "uniform")
FILL, SPILL = 0.8, 0.95  # of a pod's rate: filled by routing, by what spills over
State = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Params:
    """An instance with its options, as arrays."""

    instance: config.Instance
    known: moves.Tables
    demand: demand.Demand
    weights: tuple[float, ...]
    action: str
    rate: F64  # (S,) mu
    reach: F64  # (Z, N) routing weight of a pod
    rtt: F64  # (Z, N) ms
    scaled: F64  # (S, Z, N) mu x of the latency agreed on
    decay: F64  # (S, Z, N) e^{-mu x}
    price: F64  # (N,)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Served:
    """What became of the requests of a step, requests/s. latency is that of all requests together, dropped at the time-out."""

    latency: F64  # (S, B) ms requests/s
    missed: F64  # (S, B) later than agreed, dropped ones among them
    dropped: F64  # (S, B)
    offered: F64  # (S, B)
    load: F64  # (S, N, B)


def params(
    instance: config.Instance,
    *,
    mode: str = "balanced",
    weights: modes.Given | None = None,
    process: demand.Demand | None = None,
    routing: str = "topology",
    action: str = "discrete",
) -> Params:
    """The arrays of an instance. Raises InvalidInput for an unknown mode, routing or action form, or wrong weights."""
    for name, given, known in (("routing", routing, ROUTINGS), ("action", action, macro.FORMS)):
        if given not in known:
            raise InvalidInput(name, given=given, expected=", ".join(known), cure="Leave it out for the first.")
    rtt = np.asarray([node.rtt_ms for node in instance.nodes], dtype=np.float64).T
    rate = np.asarray([one.rate for one in instance.services], dtype=np.float64)
    slack_s = (np.asarray([one.sla_ms for one in instance.services], dtype=np.float64)[:, None, None] - rtt) / 1000.0
    scaled = rate[:, None, None] * np.maximum(slack_s, 0.0)
    base = np.asarray([one.base for one in instance.services], dtype=np.float64)
    return Params(
        instance=instance,
        known=moves.tables(instance),
        demand=demand.Walking(dt_s=instance.dt_s, base=base, zones=instance.zones) if process is None else process,
        weights=modes.weights_of(
            mode, weights=weights, modes=config.MODES, names=("latency", "spend", "balance", "migration"), shares=False
        ),
        action=action,
        rate=rate,
        reach=np.exp(-rtt / instance.routing_ms) if routing == "topology" else np.ones_like(rtt),
        rtt=rtt,
        scaled=scaled,
        decay=np.exp(-scaled),
        price=np.asarray([node.price for node in instance.nodes], dtype=np.float64),
    )


def reset_batch(p: Params, streams: philox.Streams) -> tuple[State, Array, dict[str, Any]]:
    """The first state, observation and info of each stream's episode."""
    count = len(streams.seed)
    services, nodes, _ = p.instance.shape
    run = np.tile(np.asarray(p.instance.start, np.float64), (count, 1, 1))
    waiting = (count, p.instance.slots, services, nodes)
    state: State = {
        "t": np.zeros(count, np.int64),
        "run": run,
        "starting": np.zeros(run.shape),
        "leaving": np.zeros(run.shape),
        "pend": np.zeros(waiting, np.int8),
        "leave": np.zeros(waiting, np.int8),
        "cache": np.full(run.shape, fill_value=True) if p.instance.images_everywhere else run > 0,
        "utilisation": np.zeros(run.shape),
        **p.demand.start(streams),
    }
    state["before"] = state["rate"].copy()
    state["mask"] = moves.mask(p.known, state)
    info = {
        "objectives": np.zeros((count, len(config.OBJECTIVES))),
        "cost": np.zeros((count, 1)),
        "invalid": np.zeros(count, np.bool_),
        "drop_fraction": np.zeros(count),
        "latency_by_service": np.zeros((count, services)),
        "action_mask": state["mask"],
    }
    return state, observation.observe(p, state), info


def step_batch(p: Params, state: State, *, action: Array, streams: philox.Streams) -> tuple[Any, ...]:
    """One control step. action int64 (B,) of the discrete form, (B, S) of the others.

    Gives state, observation (B, D) float32, reward (B,), cost (B, 1), terminated, truncated (B,), info.
    """
    after, reward, info = work(p, state, action=action)
    after["t"] = state["t"] + 1
    after["before"] = state["rate"]
    after.update(p.demand.after(after, streams=streams))
    after["mask"] = info["action_mask"] = moves.mask(p.known, after)
    truncated = after["t"] >= p.instance.steps
    return after, observation.observe(p, after), reward, info["cost"], np.zeros_like(truncated), truncated, info


def work(p: Params, state: State, *, action: Array) -> tuple[State, F64, dict[str, Any]]:
    """A step without its demand: the action, the requests of this step, what lands. State, reward (B,), info."""
    after = dict(state)
    for name in moves.CHANGED:
        after[name] = state[name].copy()
    migration, invalid = macro.act(p, after, action=action)
    reward, info = _outcome(p, after, migration=migration)
    info["invalid"] = invalid
    moves.tick(after)
    return after, reward, info


def serve(p: Params, *, run: F64, rate: F64) -> Served:
    """Route and queue one step's requests. run (S, N, B) ready pods, rate (S, Z, B)."""
    wide = run[:, None] * p.reach[None, :, :, None]  # (S, Z, N, B)
    pull = total(wide, axis=2)
    routed = pull > 0.0
    wide *= (np.where(routed, rate, 0.0) / np.where(routed, pull, 1.0))[:, :, None]
    load = total(wide, axis=1)
    room = run * p.rate[:, None, None]
    accepted = np.minimum(load, FILL * room)
    taken = np.where(load > accepted, accepted / np.where(load > 0.0, load, 1.0), 1.0)
    kept = wide * taken[:, None]
    wide -= kept
    excess = total(wide, axis=2)  # (S, Z, B)
    excess += np.where(routed, 0.0, rate)
    over = total(excess, axis=1)
    spare = SPILL * room - accepted
    spares = total(spare, axis=1)
    spare *= (np.minimum(over, spares) / np.where(spares > 0.0, spares, 1.0))[:, None]
    dropped = np.maximum(over - spares, 0.0)
    mix = excess / np.where(over > 0.0, over, 1.0)[:, None]
    np.multiply(mix[:, :, None], spare[:, None], out=wide)
    wide += kept  # served, by service, zone and node
    load = accepted + spare
    latency, missed = _latency(p, run=run, load=load, served=wide)
    latency += dropped * p.instance.timeout_ms
    missed += dropped
    return Served(latency=latency, missed=missed, dropped=dropped, offered=total(rate, axis=1), load=load)


def total(array: F64, *, axis: int) -> F64:
    """The sum over a small axis, one after the other: the same bits whatever the batch."""
    parts = np.moveaxis(array, axis, 0)
    found: F64 = parts[0].copy()
    for part in parts[1:]:
        found += part
    return found


def _latency(p: Params, *, run: F64, load: F64, served: F64) -> tuple[F64, F64]:
    """Latency and late requests of what is served (S, Z, N, B): (S, B) each."""
    offered = load / p.rate[:, None, None]
    waits = queueing.erlang_c(run, offered)
    sojourn = queueing.sojourn_s(run, offered, waits=waits, rate=p.rate[:, None, None])
    each = (1000.0 * sojourn)[:, None] + p.rtt[None, :, :, None]
    np.minimum(each, p.instance.timeout_ms, out=each)
    each *= served
    late = queueing.tail(
        run[:, None], offered[:, None], waits=waits[:, None], scaled=p.scaled[..., None], decay=p.decay[..., None]
    )
    late *= served  # where the round trip alone is too long, mu x is 0 and the tail 1
    return total(total(each, axis=2), axis=1), total(total(late, axis=2), axis=1)


def _outcome(p: Params, state: State, *, migration: F64) -> tuple[F64, dict[str, Any]]:
    run, rate = moves.last(state["run"]), moves.last(state["rate"])
    found = serve(p, run=run, rate=rate)
    offered = total(found.offered, axis=0)
    share = 1.0 / np.where(offered > 0.0, offered, 1.0)
    latency = total(found.latency, axis=0) * share
    spend, used, spread = resources(p, moves.last(moves.pods(state)))
    parts = (latency / p.instance.reference_ms, used, spread, migration)
    reward = -p.weights[0] * parts[0]
    for weight, part in zip(p.weights[1:], parts[1:], strict=True):
        reward -= weight * part
    state["utilisation"] = np.moveaxis(found.load / np.where(run > 0.0, run * p.rate[:, None, None], 1.0), -1, 0).copy()
    info = {
        "objectives": np.stack((latency, spend, spread, migration), axis=1),
        "cost": (total(found.missed, axis=0) * share)[:, None],
        "drop_fraction": total(found.dropped, axis=0) * share,
        "latency_by_service": (found.latency / np.where(found.offered > 0.0, found.offered, 1.0)).T.copy(),
    }
    return reward, info


def resources(p: Params, held: F64) -> tuple[F64, F64, F64]:
    """Spend an hour, its share of what all cores cost, and twice the deviation of CPU shares; held (S, N, B) -> (B,) each."""
    known = p.known
    asked = moves.requested(held, known.cpu)
    spend = total(asked * p.price[:, None], axis=0)
    fraction = asked / known.cpu_capacity[:, None]
    mean = total(fraction, axis=0) / len(fraction)
    spread = 2.0 * np.sqrt(total(np.square(fraction - mean), axis=0) / len(fraction))
    whole = float(sum(price * cpu for price, cpu in zip(p.price, known.cpu_capacity, strict=True)))
    return spend, spend / whole, spread


def metadata() -> Mapping[str, Any]:
    """Modes, costs and their limits."""
    return {"modes": list(config.MODES), "costs": config.COSTS, "cost_limits": config.COST_LIMITS}
