"""What the agent sees: one flat row of float32; and where its parts lie, for the baselines that read them again.

Called by model.py and baselines.py. Order: run/8, starting/8 (S N each), demand/(8 mu), its change (S Z each), cpu and memory
share (N each), utilisation, image cached (S N each), sine and cosine of the hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from rlaas_ray.envs.edge import config, demand, moves
from rlaas_ray.specs.arrays import F32, F64, Bool

PODS = 8.0
LOW, HIGH = -4.0, 16.0


class Known(Protocol):
    """What of model.Params is needed here."""

    @property
    def instance(self) -> config.Instance: ...

    @property
    def known(self) -> moves.Tables: ...

    @property
    def rate(self) -> F64: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Seen:
    """An observation read again, in its units."""

    run: F64  # (n, S, N) ready pods
    starting: F64  # (n, S, N)
    rate: F64  # (n, S, Z) requests/s
    cache: Bool  # (n, S, N)


def size(instance: config.Instance) -> int:
    """Entries of an observation: 4 S N + 2 S Z + 2 N + 2."""
    services, nodes, zones = instance.shape
    return 4 * services * nodes + 2 * services * zones + 2 * nodes + 2


def observe(p: Known, state: dict[str, Any]) -> F32:
    """(B, D) float32; `rate` is the demand of the coming step, utilisation that of the last."""
    count = len(state["t"])
    held = moves.pods(state)
    at = moves.last(held)
    scale = (1.0 / (PODS * p.rate))[:, None]
    cpu = moves.requested(at, p.known.cpu) / p.known.cpu_capacity[:, None]
    memory = moves.requested(at, p.known.memory) / p.known.memory_capacity[:, None]
    angle = state["t"] * (2.0 * np.pi * p.instance.dt_s / demand.PERIOD_S)
    parts = (
        state["run"] / PODS,
        state["starting"] / PODS,
        state["rate"] * scale,
        (state["rate"] - state["before"]) * scale,
        cpu.T,
        memory.T,
        state["utilisation"],
        state["cache"],
        np.sin(angle),
        np.cos(angle),
    )
    seen, at_entry = np.empty((count, size(p.instance)), np.float32), 0
    for part in parts:
        flat = part.reshape(count, -1)
        seen[:, at_entry : at_entry + flat.shape[1]] = flat
        at_entry += flat.shape[1]
    return seen


def read(observations: F32, *, instance: config.Instance) -> Seen:
    """The parts that a policy needs, in their units; pods are whole numbers again."""
    services, nodes, zones = instance.shape
    count, block = len(observations), services * nodes
    wide = observations.astype(np.float64)
    rate = np.asarray([one.rate for one in instance.services])
    cache = 2 * block + 2 * services * zones + 2 * nodes + block

    def part(start: int, *, columns: int) -> F64:
        return wide[:, start : start + services * columns].reshape(count, services, columns)

    return Seen(
        run=np.rint(part(0, columns=nodes) * PODS),
        starting=np.rint(part(block, columns=nodes) * PODS),
        rate=part(2 * block, columns=zones) * (PODS * rate)[:, None],
        cache=part(cache, columns=nodes) > 0.5,
    )
