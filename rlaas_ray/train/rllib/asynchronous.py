"""EnvRunners: RLlib's group of env runners, each with requests of its own under way; flow.Runners on Ray.

Built by asynchronous/flow.py. RLlib's group makes the actors and Ray restarts one that dies; here it is only noticed, without
waiting: a runner that failed is pinged, and asked again once it answers.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import ray
from ray.exceptions import RayError
from ray.rllib.env.env_runner_group import EnvRunnerGroup  # noqa: TID251

from rlaas_ray.train.asynchronous.flow import Arrival
from rlaas_ray.train.asynchronous.plan import AsynchronousPlan
from rlaas_ray.train.fragments import Request
from rlaas_ray.train.rllib import algorithm
from rlaas_ray.train.rllib import config as configs
from rlaas_ray.train.rllib.hosting import HostedConfig
from rlaas_ray.train.seam import Build, Parts

PING_EVERY_S = 0.5  # a runner that is being restarted refuses at once


class EnvRunners:
    """Who was asked what, and with which version of the weights."""

    def __init__(self, parts: Parts[AsynchronousPlan], given: Build[AsynchronousPlan]) -> None:
        algorithm.quiet()
        config = HostedConfig()
        config.parts = parts
        configs.place(config, given)
        self._group = EnvRunnerGroup(config=config, local_env_runner=False)
        self._actors: dict[int, Any] = dict(self._group._worker_manager.actors())  # noqa: SLF001 - it names them to nobody else
        self._asked: dict[Any, tuple[int, int]] = {}  # request -> runner, version
        self._open = dict.fromkeys(self._actors, 0)
        self._awake: set[int] = set()  # have answered since they started
        self._down: dict[int, float] = {}  # a runner that failed -> when to ping it next
        self._pinged: dict[Any, int] = {}  # ping under way -> runner
        self.restarts = 0

    def fill(self, request: Request, *, version: int, each: int) -> None:
        """Ask every living runner that has less than `each` requests open."""
        self._ping()
        for runner, actor in self._actors.items():
            # A runner that is still starting would find a second request grown old.
            limit = each if runner in self._awake else 1
            while runner not in self._down and self._open[runner] < limit:
                self._asked[actor.sample.remote(request=request)] = (runner, version)
                self._open[runner] += 1

    def arrived(self, *, timeout_s: float) -> Arrival | None:
        """The fragment that came first."""
        waited_for = [*self._asked, *self._pinged]
        if not waited_for:  # all of them are being restarted
            threading.Event().wait(timeout_s)
            return None
        ready, _ = ray.wait(waited_for, num_returns=1, timeout=timeout_s)
        for reference in ready:
            if reference in self._pinged:
                self._woken(reference)
                continue
            runner, version = self._asked.pop(reference)
            self._open[runner] -= 1
            try:
                found = Arrival(fragment=ray.get(reference), version=version)
            except RayError:
                self._forget(runner)
                continue
            self._awake.add(runner)
            return found
        return None

    def process_ids(self) -> list[int]:
        """Of the actors that answer; for tests that kill one."""
        found = []
        for actor in self._actors.values():
            try:
                found.append(ray.get(actor.process_id.remote(), timeout=10))
            except RayError:
                continue
        return found

    def stop(self) -> None:
        """Release the actors."""
        self._group.stop()

    def _forget(self, runner: int) -> None:
        """What it was asked died with it."""
        self._asked = {reference: asked for reference, asked in self._asked.items() if asked[0] != runner}
        self._open[runner] = 0
        self._awake.discard(runner)
        self._down[runner] = time.monotonic()

    def _ping(self) -> None:
        now = time.monotonic()
        waiting = set(self._pinged.values())
        for runner, due in self._down.items():
            if runner not in waiting and now >= due:
                self._pinged[self._actors[runner].ping.remote()] = runner

    def _woken(self, reference: Any) -> None:
        runner = self._pinged.pop(reference)
        try:
            ray.get(reference)
        except RayError:
            self._down[runner] = time.monotonic() + PING_EVERY_S
            return
        del self._down[runner]
        self.restarts += 1
