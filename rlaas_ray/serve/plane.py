"""A data plane put together: writer, keys, answers, door and routes of one process, from values.

Built by `listener.py` (the child) and `replica.py` (the replica's own process, for Serve's ingress). Opens no socket.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlaas_ray.data import schema
from rlaas_ray.monitoring.metrics import ServingMetrics
from rlaas_ray.policies import bundle
from rlaas_ray.serve.answer import Answerer
from rlaas_ray.serve.asgi import Door
from rlaas_ray.serve.clock import ProcessClock
from rlaas_ray.serve.keys import Keyring, Mode
from rlaas_ray.serve.routes import Routes
from rlaas_ray.serve.state import ServingPolicy, State
from rlaas_ray.serve.writer import DecisionWriter

NONCE_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plane:
    """The parts. `close` ends them in order."""

    answerer: Answerer
    door: Door
    routes: Routes
    writer: DecisionWriter
    metrics: ServingMetrics
    clock: ProcessClock

    def close(self) -> None:
        """Stop polling, end the log."""
        self.routes.stop()
        self.writer.close()


def build(*, pool: str, home: Path, data: Path, auth: Mode) -> Plane:
    """The parts of this process, with a nonce and a generator of their own."""
    schema.warm_up()
    clock = ProcessClock()
    metrics = ServingMetrics()
    nonce = "".join(secrets.choice(NONCE_ALPHABET) for _ in range(10))
    # From the system's entropy: processes must not draw the same actions, and what was drawn stands in the log.
    draw, warm = np.random.SeedSequence().spawn(2)
    writer = DecisionWriter(data, nonce=nonce, clock=clock, metrics=metrics)
    keys = Keyring(mode=auth)
    answerer = Answerer(
        writer=writer, keys=keys, nonce=nonce, rng=np.random.default_rng(draw), clock=clock, metrics=metrics
    )

    def publish(state: State) -> None:
        # One reference, swapped between two turns or within one: a turn reads it once.
        answerer.state = state

    routes = Routes(
        pool=pool,
        cache=home / "routes",
        load=_load,
        publish=publish,
        keys=keys,
        metrics=metrics,
        rng=np.random.default_rng(warm),
    )
    door = Door(answerer, writer=writer, clock=clock)
    return Plane(answerer=answerer, door=door, routes=routes, writer=writer, metrics=metrics, clock=clock)


def _load(path: Path) -> ServingPolicy:
    return bundle.load(path)
