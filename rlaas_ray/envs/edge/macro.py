"""The forms of an action: one numbered operation, one of four a service, or target replicas a service.

Called by model.work. The last two are turned into numbered operations, one after the other, each under the mask of its moment.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from rlaas_ray.envs.edge import config, moves, scheduler
from rlaas_ray.specs.arrays import F64, I64, Array, Bool

FORMS = ("discrete", "multi", "replicas")
HOLD, MORE, FEWER, SHIFT = range(4)
State = dict[str, Any]


class Known(Protocol):
    """What of model.Params is needed here."""

    @property
    def instance(self) -> config.Instance: ...

    @property
    def known(self) -> moves.Tables: ...

    @property
    def rtt(self) -> F64: ...

    @property
    def action(self) -> str: ...


def act(p: Known, state: State, *, action: Array) -> tuple[F64, Bool]:
    """Act in place; what counts as migration and whether anything asked for was not allowed, (B,) each."""
    if p.action == "discrete":
        number: I64 = action.astype(np.int64, copy=False)
        allowed = state["mask"][np.arange(len(number)), number] > 0
        return moves.apply(p.known, state, number=number, allowed=allowed), ~allowed
    migration, invalid = np.zeros(len(action)), np.zeros(len(action), np.bool_)
    for service in range(len(p.instance.services)):
        own: I64 = action[:, service].astype(np.int64)
        if p.action == "multi":
            counted, refused = _shifted(p, state, choice=own, service=service)
        else:
            counted, refused = _scaled(p, state, wanted=own, service=service)
        migration += counted
        invalid |= refused
    return migration, invalid


def _shifted(p: Known, state: State, *, choice: I64, service: int) -> tuple[F64, Bool]:
    """Hold, one more on the best node, one fewer on the worst, or one from the worst to the best, by mean round trip."""
    rows = np.arange(len(choice))
    mask = moves.mask(p.known, state) > 0
    distance = mean_rtt(state["rate"], p.rtt)[:, service]
    place, remove, move = numbers(p.instance, service)
    best = np.where(mask[:, place], distance, np.inf).argmin(axis=1)
    worst = np.where(mask[:, remove], distance, -np.inf).argmax(axis=1)
    # A service that may not lose its last pod can still move it.
    gain = np.where(mask[:, move], distance[:, p.known.source[move]] - distance[:, p.known.target[move]], -np.inf)
    number = np.select(
        [choice == MORE, choice == FEWER, choice == SHIFT],
        [place[best], remove[worst], move[gain.argmax(axis=1)]],
        default=0,
    )
    allowed = mask[rows, number]
    return moves.apply(p.known, state, number=number, allowed=allowed), ~allowed


def _scaled(p: Known, state: State, *, wanted: I64, service: int) -> tuple[F64, Bool]:
    """Pods one by one until as many are ready or starting as wanted: placed by the scheduler, taken where most are ready."""
    place, remove, _ = numbers(p.instance, service)
    total = moves.pods(state)[:, service].sum(axis=1).astype(np.int64)
    total -= state["leaving"][:, service].sum(axis=1).astype(np.int64)
    short = np.maximum(wanted, p.instance.keep) - total
    migration = np.zeros(len(wanted))
    for _ in range(int(np.abs(short).max(initial=0))):
        mask = moves.mask(p.known, state) > 0
        held = moves.pods(state).astype(np.int64)
        scored = scheduler.scores(p.instance, held, cache=state["cache"])[:, service]
        up = np.where(mask[:, place], scored, -1).argmax(axis=1)
        down = np.where(mask[:, remove], state["run"][:, service], -1.0).argmax(axis=1)
        number = np.select([short > 0, short < 0], [place[up], remove[down]], default=0)
        allowed = mask[np.arange(len(number)), number]
        migration += moves.apply(p.known, state, number=number, allowed=allowed)
        short -= np.where(allowed, np.sign(short), 0)
        if not (allowed & (number > 0)).any():
            break
    return migration, short != 0


def numbers(instance: config.Instance, service: int) -> tuple[I64, I64, I64]:
    """The numbers of a service's places (N,), removals (N,) and moves (N (N - 1),)."""
    services, nodes, _ = instance.shape
    block, pairs = services * nodes, nodes * (nodes - 1)
    node = np.arange(nodes, dtype=np.int64)
    place = 1 + service * nodes + node
    return place, place + block, 1 + 2 * block + service * pairs + np.arange(pairs, dtype=np.int64)


def mean_rtt(rate: F64, rtt: F64) -> F64:
    """Round trip from a service's users to each node, weighted by demand. rate (B, S, Z), rtt (Z, N) ms -> (B, S, N) ms."""
    total = rate[:, :, 0].copy()
    weighted = rate[:, :, 0, None] * rtt[0]
    for zone in range(1, rate.shape[2]):
        total += rate[:, :, zone]
        weighted += rate[:, :, zone, None] * rtt[zone]
    return np.asarray(weighted / np.where(total > 0.0, total, 1.0)[:, :, None])
