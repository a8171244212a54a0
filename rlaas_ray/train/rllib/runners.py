"""The env runners of a synchronous training: asked together, answered in their order, whoever died left out until it is back.

Held by algorithm.py and hosting.py in place of RLlib's fault handling, whose probe of a restarting actor holds up an iteration
by seconds. RLlib makes the actors, Ray restarts them; here nobody waits for one that is down, unless all are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from rlaas_ray.train.fragments import Fragment, Request

START_PATIENCE_S = 120.0  # for all of them, once: the same runners from the first iteration give the same curve
DOWN_PATIENCE_S = 120.0  # for any of them, when all are down
_IN_THE_CALL = 80_000  # bytes; Ray puts arguments of more than 100 KiB into its store by itself, once for each call


class Runners:
    """Which actors there are and which of them answer. The number that answers may change between any two iterations."""

    def __init__(self, actors: Mapping[int, Any], *, timeout_s: float) -> None:
        self._actors = dict(sorted(actors.items()))
        self._timeout_s = timeout_s
        self._pinged = {actor.ping.remote(): runner for runner, actor in self._actors.items()}
        self._started = False

    @property
    def up(self) -> list[int]:
        """Those that answered last, in their order."""
        down = set(self._pinged.values())
        return [runner for runner in self._actors if runner not in down]

    def collect(self, request: Request) -> Sequence[Fragment]:
        """A fragment of each that lives, in their order; none when all are down for longer than there is patience."""
        self._wake()
        given = packed(request)
        asked = {runner: self._actors[runner].sample.remote(request=given) for runner in self.up}
        until_s = time.monotonic() + self._timeout_s
        found: list[Fragment] = []
        for runner, reference in asked.items():
            try:
                found.append(ray.get(reference, timeout=max(0.0, until_s - time.monotonic())))
            except (RayError, GetTimeoutError):
                self._ping(runner)
        return found

    def process_ids(self) -> list[int]:
        """Of those that answer; for tests that kill one."""
        self._wake()
        return [ray.get(self._actors[runner].process_id.remote()) for runner in self.up]

    def _wake(self) -> None:
        """Take back whoever answers its ping. Waits for all at the start, for one when none is up, else for nobody."""
        if not self._started:
            self._started = True
            ready, _ = ray.wait(list(self._pinged), num_returns=len(self._pinged), timeout=START_PATIENCE_S)
        elif not self.up:
            ready, _ = ray.wait(list(self._pinged), num_returns=1, timeout=DOWN_PATIENCE_S)
        elif self._pinged:
            ready, _ = ray.wait(list(self._pinged), num_returns=len(self._pinged), timeout=0)
        else:
            return
        for reference in ready:
            runner = self._pinged.pop(reference)
            try:
                ray.get(reference)
            except RayError:
                self._ping(runner)

    def _ping(self, runner: int) -> None:
        """What it was asked died with it. The ping stays under way until Ray has restarted the actor."""
        self._pinged[self._actors[runner].ping.remote()] = runner


def packed(request: Request) -> Any:
    """The request as a task takes it: in the call itself while it is small (2 ms less for two), else stored once for all."""
    return request if request.parameters.nbytes <= _IN_THE_CALL else ray.put(request)


def of(algorithm: Any) -> Runners | None:
    """The env runner actors of an algorithm; None where it samples in its own process."""
    if algorithm.env_runner_group.num_remote_workers() == 0:
        return None
    manager = algorithm.env_runner_group._worker_manager  # noqa: SLF001 - it names its actors to nobody else
    return Runners(manager.actors(), timeout_s=algorithm.config.sample_timeout_s)
