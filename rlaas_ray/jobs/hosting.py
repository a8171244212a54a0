"""Place `here` for searches: many share a host, one process for each core that is free for it. Other runs go to the place below.

Called by control through the seam Place. Hands attempts over by files (`inbox.py`), starts hosts, starts them again when they
died. The reference is `host:RUN:ATTEMPT`: which process has the attempt may change, so no process is in it.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.jobs import command, output, processes, scheduler
from rlaas_ray.jobs.inbox import LOG, Inbox, Order
from rlaas_ray.jobs.scheduler import Rules
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Clock, Place

_LOG = logging.getLogger(__name__)
HOST = (sys.executable, "-m", "rlaas_ray.cli.host")
ALONE = "alone-"  # a host of one search that is too slow to share
_PREFIX = "host:"
_AGAIN_S = 3.0  # between two starts of one host: one that cannot begin must not take the machine
_TRAINS = tuple(f"rlaas_ray.cli {verb} --run " for verb in ("train", "tune"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Launcher:
    """Starts the process of a host. Its environment says how it reaches the API, and holds no key."""

    folder: Path
    url: str
    environment: Mapping[str, str]
    program: Sequence[str] = HOST

    def __call__(self, slot: str) -> subprocess.Popen[bytes]:
        own = command.environment(self.environment, url=self.url, key="")
        with (self.folder / slot / LOG).open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - our own program and arguments
                [*self.program, str(self.folder / slot)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=own,
                start_new_session=True,
            )


class HostPlace(Place):
    """`runs` holds a folder for each run, with its logs; `other` executes every other kind of run."""

    def __init__(self, *, launch: Launcher, runs: Path, other: Place, clock: Clock, cores: int) -> None:
        self._launch = launch
        self._runs = runs
        self._other = other
        self._clock = clock
        self._cores = cores
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._begun_s: dict[str, float] = {}

    def submit(self, run: Run, *, key: str) -> str:
        if (
            run.kind != "optimize" or run.spec.get("evaluate") == "ray"
        ):  # one that waits for Ray waits in a process of its own
            return self._other.submit(run, key=key)
        order = Order(
            run_id=run.id,
            attempt=run.attempt,
            key=key,
            spec=run.spec,
            tenant=run.owner_key or "",
            created_us=run.created_us,
        )
        handed = self._runs / run.id / f"hosted.{run.attempt}"
        if handed.exists():  # handed over, and perhaps over: an attempt is never begun twice
            return order.ref
        handed.parent.mkdir(parents=True, exist_ok=True)
        inbox = self._inbox(self._slot())
        inbox.put(order)
        handed.touch()
        self._keep(inbox)
        return order.ref

    def alive(self, ref: str) -> bool:
        if not ref.startswith(_PREFIX):
            return self._other.alive(ref)
        return self._holder(_name(ref)) is not None

    def stop(self, ref: str, *, grace_s: float) -> None:
        if not ref.startswith(_PREFIX):
            self._other.stop(ref, grace_s=grace_s)
            return
        name, until = _name(ref), self._clock.monotonic_s() + grace_s
        while (inbox := self._holder(name)) is not None:
            if self._clock.monotonic_s() >= until:
                inbox.remove(name)  # the host lets go of what lies here no more
                return
            inbox.ask_stop(name)
            self._keep(inbox)
            self._clock.sleep(0.05)

    def logs(self, ref: str, *, run_id: str, follow: bool) -> Iterator[str]:
        if not ref.startswith(_PREFIX):
            return self._other.logs(ref, run_id=run_id, follow=follow)
        attempt = _name(ref).rpartition(".")[2]
        path = self._runs / run_id / f"log.{attempt}.txt"
        if not path.exists():
            raise NotFound(f"the log of {run_id}, attempt {attempt}", given=str(path))
        return output.lines(path, lives=lambda: follow and self.alive(ref), clock=self._clock)

    def tend(self) -> None:
        """Start the hosts again that died with work in hand."""
        self._other.tend()
        for slot, child in list(self._children.items()):
            if child.poll() is not None:
                del self._children[slot]
        for inbox in self._inboxes():
            if inbox.names():
                self._keep(inbox)

    def _keep(self, inbox: Inbox) -> None:
        slot, now_s = inbox.folder.name, self._clock.monotonic_s()
        child = self._children.get(slot)
        if (child is not None and child.poll() is None) or inbox.lived_in():
            return
        if now_s - self._begun_s.get(slot, float("-inf")) < _AGAIN_S:
            return
        self._begun_s[slot] = now_s
        _LOG.info("a host of searches begins: %s", inbox.folder)
        self._children[slot] = self._launch(slot)

    def _slot(self) -> str:
        """Of the hosts that there may be now, the one with the least in hand."""
        held = {inbox.folder.name: len(inbox.names()) for inbox in self._inboxes()}
        searches = 1 + sum(held.values())
        most = scheduler.engines(cores=self._cores, searches=searches, trainings=0)
        if most > 1:
            most = scheduler.engines(cores=self._cores, searches=searches, trainings=_trainings() + _alone(held))
        return min((str(number) for number in range(most)), key=lambda slot: (held.get(slot, 0), slot))

    def _inboxes(self) -> list[Inbox]:
        return [Inbox(path) for path in sorted(self._launch.folder.glob("*")) if path.is_dir()]

    def _inbox(self, slot: str) -> Inbox:
        self._launch.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return Inbox(self._launch.folder / slot)

    def _holder(self, name: str) -> Inbox | None:
        found = next(iter(self._launch.folder.glob(f"*/{name}.json")), None)
        return None if found is None else Inbox(found.parent)


def move(order: Order, *, launch: Launcher) -> None:
    """Hand an order to a host of its own, and start that."""
    inbox = Inbox(launch.folder / f"{ALONE}{order.name}")
    inbox.put(order)
    launch(inbox.folder.name)


def rules(*, cores: int) -> Rules:
    """What one host may take: its part of what the machine allows; half of the memory is for searches, 4 GiB at most."""
    most = scheduler.engines(cores=cores, searches=cores, trainings=0)
    whole = Rules()
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return replace(whole, active=-(-whole.active // most), memory_bytes=min(whole.memory_bytes, free) // most)


def _alone(held: Mapping[str, int]) -> int:
    return sum(slot.startswith(ALONE) and count > 0 for slot, count in held.items())


def _trainings() -> int:
    """How many trainings and studies run on this machine as attempts of place `here`."""
    return sum(any(word in processes.command_line(pid) for word in _TRAINS) for pid in processes.every())


def _name(ref: str) -> str:
    parts = ref.removeprefix(_PREFIX).split(":")
    if len(parts) != 2 or not parts[1].isdigit():
        raise InvalidInput("not a reference of a host of searches", given=ref, expected="host:RUN:ATTEMPT")
    return ".".join(parts)
