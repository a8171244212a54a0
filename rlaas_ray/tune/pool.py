"""Hands in Ray actors that live as long as the study: a trial pays for no process, no import and no restart.

Made by run.py when more than one trial runs at once. An actor that dies is made anew, and its trial goes on from what its folder
holds. Decides nothing about trials.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from ray import exceptions

from rlaas_ray.specs.seams import Clock
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.train import cluster
from rlaas_ray.tune.trials import Hand, Job, Outcome

_GRACE_S = 30.0  # for trials to save what they have, once the study stops


class Pool:
    """`count` actors, each with one Hand."""

    def __init__(self, spec: TuneSpec, *, count: int, cpus: float, clock: Clock, key_file: Path) -> None:
        self.count = count
        self._made = ray.remote(Hand).options(num_cpus=cpus, max_concurrency=2)  # `stop` is heard beside a trial
        self._given: dict[str, Any] = {"spec": spec, "clock": clock, "key_file": key_file}
        self._clock = clock
        self._actors: list[Any] = [self._actor() for _ in range(count)]
        self._due: dict[Any, int] = {}
        self._until_s: float | None = None

    def begin(self, slot: int, *, job: Job) -> None:
        self._due[self._actors[slot].begin.remote(job)] = slot

    def step(self, slot: int, *, go: bool) -> None:
        self._due[self._actors[slot].step.remote(go=go)] = slot

    def wait(self, *, timeout_s: float) -> list[tuple[int, Outcome]]:
        refs = list(self._due)
        ready, _ = ray.wait(refs, num_returns=1, timeout=timeout_s)
        if ready and len(refs) > 1:
            ready, _ = ray.wait(refs, num_returns=len(refs), timeout=0)
        late = self._until_s is not None and self._clock.monotonic_s() > self._until_s
        found = [(self._due.pop(ref), ref) for ref in (refs if late else ready)]
        return [
            (slot, self._outcome(slot, ref=ref, late=late and ref not in ready))
            for slot, ref in sorted(found, key=_slot)
        ]

    def stop(self) -> None:
        self._until_s = self._clock.monotonic_s() + _GRACE_S
        for actor in self._actors:
            actor.stop.remote()

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)

    def _actor(self) -> Any:
        spec, clock, key_file = self._given["spec"], self._given["clock"], self._given["key_file"]
        return self._made.remote(spec, clock=clock, key_file=key_file)

    def _outcome(self, slot: int, *, ref: Any, late: bool) -> Outcome:
        if late:  # it heeds no stop: what it had saved is what it goes on from
            return Outcome(kind="halted")
        try:
            found: Outcome = ray.get(ref)
        except exceptions.RayActorError as error:
            self._actors[slot] = self._actor()
            words = " ".join(str(error).split())[:300]
            return Outcome(
                kind="died", error={"reason": "died", "detail": words, "cure": "Look for memory that ran out."}
            )
        return found


@contextlib.contextmanager
def opened(spec: TuneSpec, *, count: int, address: str | None, clock: Clock, key_file: Path) -> Iterator[Pool]:
    """A pool on the Ray at `address`, or on a small one of its own."""
    with cluster.joined(count * (1 + inner(spec)), name=subject(spec), address=address) as cpus:
        pool = Pool(spec, count=count, cpus=cpus, clock=clock, key_file=key_file)
        try:
            yield pool
        finally:
            pool.close()


def inner(spec: TuneSpec) -> int:
    """Ray actors that each trial has of its own."""
    return 0 if spec.train is None else (spec.train.num_env_runners or 0) + spec.train.num_learners


def subject(spec: TuneSpec) -> str:
    """What a user's module may be found by."""
    return spec.train.env if spec.train is not None else str(spec.function)


def _slot(found: tuple[int, Any]) -> int:
    return found[0]
