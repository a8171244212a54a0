"""The flow of an asynchronous training: whichever fragment comes first is learnt from at once, and its runner is asked again.

A seam.Trainer around train/loop.py, whose iterations have one fragment each here. Who the runners are is handed in: env runners
of RLlib (train/rllib/asynchronous.py), or a twin in tests. Never waits for all of them.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from rlaas_ray.errors import WorkFailed
from rlaas_ray.policies import spaces
from rlaas_ray.specs.arrays import F32
from rlaas_ray.train import ledger as ledgers
from rlaas_ray.train.asynchronous import learning as asynchronous
from rlaas_ray.train.asynchronous.plan import AsynchronousPlan
from rlaas_ray.train.fragments import Fragment, Request
from rlaas_ray.train.ledger import Ledger
from rlaas_ray.train.loop import Loop
from rlaas_ray.train.seam import Build, Learning, Parts, Situation, State, Trained, Trainer

SILENCE_S = 600.0  # no fragment from anybody for so long ends the run
_WAIT_S = 0.5  # a stop is heard between waits
_WINDOW = 100  # updates that staleness and rate are told of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Arrival:
    """A fragment, and how many updates there had been when its weights left."""

    fragment: Fragment
    version: int


class Runners(Protocol):
    """Env runners that work on requests of their own."""

    def fill(self, request: Request, *, version: int, each: int) -> None:
        """Ask every living runner that has less than `each` requests open, until it has as many. Never waits."""
        ...

    def arrived(self, *, timeout_s: float) -> Arrival | None:
        """The fragment that came first; None when none came in time. What a dead runner was asked is forgotten."""
        ...

    def stop(self) -> None:
        """Release the actors."""
        ...


class Flow(Trainer):
    """An asynchronous Trainer."""

    def __init__(self, given: Build[AsynchronousPlan], *, learning: Learning, runners: Runners) -> None:
        self._plan = given.plan
        self._slice_s = given.slice_s
        self._learning = learning
        self._runners = runners
        self._updates = 0  # since this process began
        self._dropped = 0
        self._lags: deque[int] = deque(maxlen=_WINDOW)
        self._times: deque[float] = deque(maxlen=_WINDOW)
        self._heard = time.monotonic()
        self._waited_s = self._learned_s = 0.0
        self._taken: list[Arrival] = []
        self.loop = Loop(
            given.plan,
            ledger=ledgers.new(spaces.encoded_size(given.worlds.observation_space)),
            parameters=learning.parameters(),
            collect=self._collect,
            learn=self._learn,
        )

    @property
    def ledger(self) -> Ledger:
        return self.loop.ledger

    @property
    def stats(self) -> Mapping[str, float]:
        return self.loop.stats

    def train(self) -> None:
        """Fragments for a slice of time; returns sooner only when the budget is used."""
        started = time.monotonic()
        while not ledgers.finished(self.ledger, plan=self._plan):
            self._ask()
            before = time.monotonic()
            arrival = self._runners.arrived(timeout_s=_WAIT_S)
            arrived = time.monotonic()
            if arrival is not None:
                self._heard = arrived
                self._taken = [arrival]
                self.loop.once()
                self._tell_share(waited=arrived - before, learned=time.monotonic() - arrived)
            elif arrived - self._heard > SILENCE_S:
                raise self._silence()
            if time.monotonic() - started >= self._slice_s:
                return

    def state(self) -> State:
        """A copy of everything."""
        return self._learning.state()

    def load_state(self, state: State, *, ledger: Ledger) -> None:
        """Continue a run from its checkpoint; what is under way was asked with older weights, and counts as such."""
        self._learning.load_state(state)
        self.loop.ledger = ledger
        self.loop.parameters = self._learning.parameters()

    def policies(self) -> Mapping[str, Trained]:
        return self._learning.policies(observations=self.ledger.observations)

    def stop(self) -> None:
        """Release the actors."""
        self._runners.stop()

    def _tell_share(self, *, waited: float, learned: float) -> None:
        """Sampling goes on while the driver learns: its share is how long the driver had to wait for it."""
        self._waited_s = 0.99 * self._waited_s + waited
        self._learned_s = 0.99 * self._learned_s + learned
        share = self._waited_s / max(1e-9, self._waited_s + self._learned_s)
        self.loop.stats = {**self.loop.stats, "sample_share": share}

    def _silence(self) -> WorkFailed:
        return WorkFailed(
            "no answer from any env runner",
            given=f"silence for {SILENCE_S:.0f} s",
            expected="a fragment",
            cure=f"`rlaas env check {self._plan.env}` times a step; a smaller batch_size makes shorter fragments.",
        )

    def _ask(self) -> None:
        # What was asked before there are statistics cannot be learnt from: one such request for each runner is enough.
        warming = self._plan.normalise_observations and self.ledger.observations.count == 0
        self._runners.fill(
            self.loop.request(), version=self._updates, each=1 if warming else self._plan.requests_in_flight
        )

    def _collect(self, _: Request) -> Sequence[Fragment]:
        fragments = [arrival.fragment for arrival in self._taken]
        self.ledger.cpu_s += sum(fragment.cpu_s for fragment in fragments)
        return fragments

    def _learn(self, fragments: Sequence[Fragment], situation: Situation) -> tuple[F32, dict[str, float]]:
        (fragment,) = fragments
        lag = self._updates - self._taken[0].version
        stats: dict[str, float] = {}
        if self._plan.max_staleness is not None and lag > self._plan.max_staleness:
            self._dropped += 1
        else:
            columns: Any = replace(fragment.columns, staleness=lag)
            stats = self._learning.learn([replace(fragment, columns=columns)], situation=situation)
        if stats:
            self._updates += 1
            self._lags.append(lag)
            self._times.append(time.monotonic())
        return self._learning.parameters(), {**self.loop.stats, **stats, **self._told()}

    def _told(self) -> dict[str, float]:
        if not self._lags:
            return {}
        span = self._times[-1] - self._times[0]
        rate = {"applied_per_s": (len(self._times) - 1) / span} if span > 0 else {}
        return {**asynchronous.staleness(self._lags), **rate, "dropped": float(self._dropped)}


def build(parts: Parts[AsynchronousPlan], given: Build[AsynchronousPlan]) -> Flow:
    """The trainer around RLlib's env runners, on the Ray that this process is connected to."""
    runners = given.on_ray().runners(parts, given)
    return Flow(given, learning=parts.learning(given.plan, given.worlds), runners=runners)
