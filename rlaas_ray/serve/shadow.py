"""What a shadow arm would have done, run after the answer and logged beside the decisions.

`decide.py` offers, the door calls `run_some` when its loop has nothing better to do. Bounded, dropped first, and never part
of an answer.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlaas_ray.data import schema
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.serve.state import EndpointState
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.specs.arrays import F32, F64
from rlaas_ray.specs.seams import Clock

QUEUE = 256
AT_ONCE = 64
# Two actions agree when they are the same to what a client could tell apart; draws of a stochastic policy rarely do.
CLOSE = 1e-3
_logger = logging.getLogger(__name__)


class Shadows:
    """The bounded queue of one process."""

    def __init__(
        self, *, writer: DecisionWriter, rng: np.random.Generator, clock: Clock, metrics: ServingMetrics
    ) -> None:
        self._writer = writer
        self._rng = rng
        self._clock = clock
        self._metrics = metrics
        self._queue: deque[tuple[EndpointState, str, F32, F64]] = deque()

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, endpoint: EndpointState, *, rows: Sequence[tuple[str, F32, F64]]) -> None:
        """Queue (id, observation, action) of decisions for the endpoint's shadow arm, if any; what does not fit is dropped."""
        if endpoint.table.arm("shadow") is None:
            return
        room = QUEUE - len(self._queue)
        self._queue.extend((endpoint, *row) for row in rows[:room])
        if len(rows) > room:
            self._metrics.shadow.labels(endpoint.table.endpoint, "dropped").inc(len(rows) - room)

    def run_some(self) -> None:
        """Run up to 64 queued decisions of one endpoint in one batch."""
        if not self._queue:
            return
        endpoint = self._queue[0][0]
        taken: list[tuple[EndpointState, str, F32, F64]] = []
        while self._queue and self._queue[0][0] is endpoint and len(taken) < AT_ONCE:
            taken.append(self._queue.popleft())
        arm = endpoint.table.arm("shadow")
        if arm is None or endpoint.breaker(arm).is_open(self._clock.monotonic_s()):
            return
        name = endpoint.table.endpoint
        started_s = self._clock.monotonic_s()
        try:
            drawn = endpoint.policy(arm).decide(np.stack([row for _, _, row, _ in taken]), rng=self._rng)
        except Exception:  # a shadow is on trial: its failures are counted and reach nobody
            _logger.exception("shadow arm %s of %s failed", arm.name, name)
            self._metrics.shadow.labels(name, "error").inc(len(taken))
            endpoint.breaker(arm).failed(self._clock.monotonic_s())
            return
        latency_us = round((self._clock.monotonic_s() - started_s) * 1e6)
        agrees = [_agree(drawn.action[k], answered) for k, (_, _, _, answered) in enumerate(taken)]
        self._metrics.shadow.labels(name, "agrees").inc(sum(agrees))
        self._metrics.shadow.labels(name, "differs").inc(len(agrees) - sum(agrees))
        time_us = self._clock.now_us()
        rows: list[dict[str, Any]] = [
            {
                "decision_id": decision_id,
                "epoch": endpoint.table.epoch,
                "time_us": time_us,
                "arm": arm.name,
                "version": arm.version,
                "bundle_digest": arm.digest,
                "action": drawn.action[k],
                "agrees": agrees[k],
                "latency_us": latency_us,
            }
            for k, (_, decision_id, _, _) in enumerate(taken)
        ]
        self._writer.append("shadows", endpoint=name, rows=rows, form=schema.SHADOWS)


def _agree(shadow: F64, answered: F64) -> bool:
    return shadow.shape == answered.shape and bool(np.abs(shadow - answered).max(initial=0.0) <= CLOSE)
