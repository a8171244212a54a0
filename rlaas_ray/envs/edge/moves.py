"""Placing, removing and moving pods: what is allowed, and what it does to a batch of states, by number of the discrete form.

Called by model.py, macro.py and the exact optimum. Never serves a request and never advances time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rlaas_ray.envs.edge import config
from rlaas_ray.specs.arrays import F64, I64, Bool

State = dict[str, Any]
CHANGED = ("run", "starting", "leaving", "pend", "leave", "cache")  # what an action and a tick touch
I8 = npt.NDArray[np.int8]
_SLACK = 1e-9  # sums of requests are not exact in every unit
_PLACE_COST, _MOVE_COST = 0.25, 1.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """An instance as arrays. S services, N nodes, Z zones, A actions; kinds 0 to 3 are none, place, remove, move."""

    cpu: F64  # (S,)
    memory: F64  # (S,)
    cpu_capacity: F64  # (N,)
    memory_capacity: F64  # (N,)
    kind: I64  # (A,)
    service: I64  # (A,)
    source: I64  # (A,)
    target: I64  # (A,)
    move_from: I64  # (S N (N - 1),) flat (s, n)
    move_to: I64  # as move_from
    start_steps: int
    pull_steps: I64  # (S, N)
    pod_limit: int
    keep: int


def tables(instance: config.Instance) -> Tables:
    """Computed once."""
    services, nodes, _ = instance.shape
    read = [config.decode(number, instance=instance) for number in range(instance.actions)]
    kinds = (config.NONE, config.PLACE, config.REMOVE, config.MOVE)
    service, source, target = (np.asarray([entry[k] for entry in read], dtype=np.int64) for k in (1, 2, 3))
    moved = np.asarray([entry[0] == config.MOVE for entry in read])
    image = np.asarray([one.image_mb for one in instance.services], dtype=np.float64)
    pull = np.asarray([node.pull_mbps for node in instance.nodes], dtype=np.float64)
    delay = instance.start_s + image[:, None] * 8.0 / pull

    def steps(delay_s: Any) -> Any:
        return np.clip(np.ceil(np.asarray(delay_s) / instance.dt_s), 1, instance.slots).astype(np.int64)

    return Tables(
        cpu=np.asarray([one.cpu for one in instance.services], dtype=np.float64),
        memory=np.asarray([one.memory_gib for one in instance.services], dtype=np.float64),
        cpu_capacity=np.asarray([node.cpu for node in instance.nodes], dtype=np.float64),
        memory_capacity=np.asarray([node.memory_gib for node in instance.nodes], dtype=np.float64),
        kind=np.asarray([kinds.index(entry[0]) for entry in read], dtype=np.int64),
        service=service,
        source=source,
        target=target,
        move_from=service[moved] * nodes + source[moved],
        move_to=service[moved] * nodes + target[moved],
        start_steps=int(steps(instance.start_s)),
        pull_steps=steps(delay).reshape(services, nodes),
        pod_limit=instance.pod_limit,
        keep=instance.keep,
    )


def pods(state: State) -> F64:
    """Ready and starting pods (B, S, N): what holds a request on a node."""
    held: F64 = state["run"] + state["starting"]
    return held


def requested(held: F64, request: F64) -> F64:
    """Cores or GiB asked for on each node. held (S, N, B), request (S,) -> (N, B)."""
    asked: F64 = held[0] * request[0]
    for service in range(1, len(request)):
        asked += held[service] * request[service]
    return asked


def last(array: F64) -> F64:
    """(B, ...) -> (..., B), contiguous: small axes outside, the batch inside, so that NumPy's inner loop is the batch."""
    return np.ascontiguousarray(np.moveaxis(array, 0, -1))


def mask(known: Tables, state: State) -> I8:
    """Int8 (B, A), 1 where an action does something; doing nothing is always allowed."""
    held, run = last(pods(state)), last(state["run"])
    services, nodes, count = held.shape
    cpu = known.cpu_capacity[:, None] - requested(held, known.cpu)
    memory = known.memory_capacity[:, None] - requested(held, known.memory)
    fits = cpu >= known.cpu[:, None, None] - _SLACK
    fits &= memory >= known.memory[:, None, None] - _SLACK
    fits &= held < known.pod_limit
    staying = run - last(state["leaving"])
    free = staying > 0.0
    stays = staying[:, 0].copy()
    for node in range(1, nodes):
        stays += staying[:, node]
    block = services * nodes
    allowed = np.empty((len(known.kind), count), np.int8)
    allowed[0] = 1
    allowed[1 : 1 + block] = fits.reshape(block, count)
    allowed[1 + block : 1 + 2 * block] = (free & (stays > known.keep)[:, None]).reshape(block, count)
    np.logical_and(
        free.reshape(block, count)[known.move_from],
        fits.reshape(block, count)[known.move_to],
        out=allowed[1 + 2 * block :],
        casting="unsafe",
    )
    return np.ascontiguousarray(allowed.T)


def apply(known: Tables, state: State, *, number: I64, allowed: Bool) -> F64:
    """Act on the state in place where allowed (B,); gives what it counts as migration (B,).

    A start takes its steps and holds its requests from now on; a move removes its source when the target is ready; a removal is
    immediate.
    """
    run, pend, leave, cache = state["run"], state["pend"], state["leave"], state["cache"]
    kind = known.kind[number] * allowed
    starts = np.flatnonzero((kind == 1) | (kind == 3))
    if len(starts):
        chosen = number[starts]
        service, target = known.service[chosen], known.target[chosen]
        slot = np.where(cache[starts, service, target], known.start_steps, known.pull_steps[service, target]) - 1
        pend[starts, slot, service, target] += 1
        state["starting"][starts, service, target] += 1.0
        cache[starts, service, target] = True
        moving = kind[starts] == 3
        if moving.any():
            who, source = starts[moving], known.source[chosen[moving]]
            leave[who, slot[moving], service[moving], source] += 1
            state["leaving"][who, service[moving], source] += 1.0
    removed = np.flatnonzero(kind == 2)
    if len(removed):
        chosen = number[removed]
        run[removed, known.service[chosen], known.source[chosen]] -= 1.0
    return np.where(kind == 3, _MOVE_COST, np.where(kind == 1, _PLACE_COST, 0.0))


def tick(state: State) -> None:
    """Starts and paired removals of the first slot land; the others come one step nearer. In place."""
    for waiting, counted, sign in (("pend", "starting", 1.0), ("leave", "leaving", -1.0)):
        slots = state[waiting]
        if slots.any():
            landed = slots[:, 0].astype(np.float64)
            state[counted] -= landed
            state["run"] += sign * landed
            slots[:, :-1] = slots[:, 1:].copy()
            slots[:, -1] = 0
