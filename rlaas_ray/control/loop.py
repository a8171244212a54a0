"""The controller loop: does what transactions promised, judges rollouts, ends lost runs, keeps pools deployed.

One task group in the API process (and in the CLI while it runs the same app). It holds no state that matters and acts only
under the lease `controller`; each step is a plain method, so that tests step it without a clock.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import numpy as np

from rlaas_ray.control import documents
from rlaas_ray.control.judge import Judge
from rlaas_ray.control.keyring import Keyring
from rlaas_ray.control.records import Records
from rlaas_ray.control.runs import Runs
from rlaas_ray.errors import InvalidInput, NotBuilt, NotFound
from rlaas_ray.specs.seams import Clock, Mirror, Place, Pools
from rlaas_ray.store import audit, endpoints, idempotency, leases, metric_rows, outbox, registry
from rlaas_ray.store import runs as run_rows
from rlaas_ray.store.database import Database
from rlaas_ray.store.leases import Lease
from rlaas_ray.store.outbox import Act

_LOG = logging.getLogger(__name__)
LEASE, LEASE_S = "controller", 10.0
DEFAULT_POOL = "policies"
_PATIENCE_S = 30.0  # a loop that has just begun cannot tell its own absence from a run's
_LOOK_S = 15.0
_HOUR_US, _DAY_US = 3_600_000_000, 86_400_000_000
_ACTS = 200  # at once: a hundred searches that are asked for together begin together
_MIRRORS, _MIRROR_S = frozenset({"mirror_run", "mirror_version"}), 0.25
_FOR_GOOD = (InvalidInput, NotBuilt, NotFound)  # an act that raised one of these will raise it again


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the loop acts with. `mirror()` loads MLflow at its first call; None: none is kept."""

    database: Database
    clock: Clock
    runs: Runs
    judge: Judge
    keyring: Keyring
    records: Records
    places: Mapping[str, Place]
    pools: Pools | None
    mirror: Callable[[], Mirror] | None


class Loop:
    """`owner` says who holds the lease; `dead(owner)` whether one of this host is surely gone."""

    def __init__(self, parts: Parts, *, owner: str, dead: Callable[[str], bool]) -> None:
        self._parts = parts
        self._owner = owner
        self._dead = dead
        self._lease: Lease | None = None
        self._held_since_s = 0.0
        self._head: str | None = None
        self._applied: set[str] = set()
        self._swept_us = 0
        self._looked_s = 0.0
        self.faults: dict[str, int] = {}

    @property
    def acts(self) -> bool:
        """Whether this loop holds the lease."""
        return self._lease is not None

    async def run(self) -> None:
        """Until cancelled. Steps that take long (places, pools) have a task of their own."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._each(2.0, self.hold))
                tasks.create_task(self._each(1.0, self.work_off))
                tasks.create_task(self._each(1.0, self.judge))
                tasks.create_task(self._each(1.0, self.tend))
                tasks.create_task(self._each(5.0, self.sweep))
                tasks.create_task(self._each(1.0, self.keep_pools))
                tasks.create_task(self._each(60.0, self.keep_house))
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(self.let_go)

    def hold(self) -> None:
        """Take or renew the lease."""
        parts = self._parts
        with parts.database.write() as tx:
            lease = leases.take(
                tx, LEASE, owner=self._owner, now_us=parts.clock.now_us(), for_s=LEASE_S, dead=self._dead
            )
        if lease is not None and (self._lease is None or lease.fence != self._lease.fence):
            self._held_since_s = parts.clock.monotonic_s()
            _LOG.info("controller lease taken, fence %d", lease.fence)
        self._lease = lease

    def let_go(self) -> None:
        """Sign the audit log and give the lease up."""
        if self._lease is None:
            return
        self._parts.records.sign()
        with self._parts.database.write() as tx:
            leases.release(tx, self._lease)
        self._lease = None

    def work_off(self) -> int:
        """Do the acts that are due; gives how many succeeded."""
        if self._lease is None:
            return 0
        parts = self._parts
        with parts.database.read() as tx:
            due = outbox.due(tx, now_us=parts.clock.now_us(), limit=_ACTS)
        done, until_s = 0, parts.clock.monotonic_s() + _MIRROR_S
        # A start or a stop waits for no mirror: a hundred runs that end together take MLflow ten seconds.
        for act in sorted(due, key=lambda act: act.action in _MIRRORS):
            if act.action in _MIRRORS and parts.clock.monotonic_s() > until_s:
                break
            try:
                self._do(act)
            except Exception as error:  # noqa: BLE001 - whatever a place or MLflow raises is told, counted and tried again
                self._failed(act, error=error)
                continue
            with parts.database.write() as tx:
                outbox.done(tx, act)
            done += 1
        return done

    def judge(self) -> None:
        """One tick of every open rollout."""
        if self._lease is not None:
            self._parts.judge.tick(lease=self._lease)

    def tend(self) -> None:
        """Let the places start again what they keep."""
        if self._lease is not None:
            for place in self._parts.places.values():
                place.tend()

    def sweep(self) -> list[str]:
        """End runs that are lost; gives their ids."""
        if self._lease is None:
            return []
        may_lose = self._parts.clock.monotonic_s() - self._held_since_s >= _PATIENCE_S
        return self._parts.runs.sweep(may_lose=may_lose)

    def keep_pools(self) -> list[str]:
        """Deploy the pools that are wanted and not there; a new Ray head has none. Gives what was applied."""
        pools = self._parts.pools
        if self._lease is None or pools is None:
            return []
        head = pools.head_id()
        if head is None:
            return []
        if head != self._head:
            # A new head has no pools; after a restart of this process its own still run, and are not deployed again.
            self._applied = set(pools.running())
            self._head = head
        with self._parts.database.read() as tx:
            wanted = {DEFAULT_POOL, *endpoints.pools(tx)}
        fresh = sorted(wanted - self._applied)
        for pool in fresh:
            pools.apply(pool)
            self._applied.add(pool)
        now_s = self._parts.clock.monotonic_s()
        if fresh or now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            running = set(pools.running())
            self._applied &= running  # one that was taken down by hand is deployed again at the next look
            for pool in sorted(running - wanted):
                pools.delete(pool)
        return fresh

    def keep_house(self) -> None:
        """Retention, and a signature each hour with news or each 1,000 rows."""
        if self._lease is None:
            return
        parts, now_us = self._parts, self._parts.clock.now_us()
        with parts.database.read() as tx:
            last = audit.last_checkpoint_us(tx)
        parts.records.sign(at_least=1 if now_us - last >= _HOUR_US else audit.CHECKPOINT_EACH)
        if now_us - self._swept_us < _HOUR_US:
            return
        self._swept_us = now_us
        with parts.database.write() as tx:
            idempotency.forget(tx, before_us=now_us - _DAY_US, limit=500)
            outbox.forget(tx, before_us=now_us - 7 * _DAY_US, limit=500)
            run_rows.forget_events(tx, ended_before_us=now_us - 90 * _DAY_US, limit=500)

    def _do(self, act: Act) -> None:
        payload = act.payload
        match act.action:
            case "submit":
                self._submit(payload["run"], attempt=payload["attempt"])
            case "stop":
                self._stop(payload["run"])
            case "mirror_run":
                self._mirror_run(payload["run"])
            case "mirror_version":
                self._mirror_version(payload["name"], number=payload["number"])

    def _submit(self, run_id: str, *, attempt: int) -> None:
        parts = self._parts
        with parts.database.read() as tx:
            run = run_rows.get(tx, run_id)
        if run.state != "queued" or run.attempt != attempt:
            return
        place = parts.places.get(run.place)
        if place is None:
            raise NotFound("no such place here", given=run.place, expected=", ".join(parts.places) or "none")
        ref = place.submit(run, key=parts.keyring.for_run(run.id, attempt=attempt))
        parts.runs.started(run.id, attempt=attempt, place_ref=ref)

    def _stop(self, run_id: str) -> None:
        parts = self._parts
        with parts.database.read() as tx:
            run = run_rows.get(tx, run_id)
        place = parts.places.get(run.place)
        if place is not None and run.place_ref is not None and place.alive(run.place_ref):
            place.stop(run.place_ref, grace_s=30.0)

    def _mirror_run(self, run_id: str) -> None:
        if self._parts.mirror is None:
            return
        with self._parts.database.read() as tx:
            run = run_rows.get(tx, run_id)
            columns = metric_rows.columns(tx, run_id)
        arrays = {
            name: np.array([np.nan if value is None else value for value in values], dtype=np.float64)
            for name, values in columns.items()
        }
        self._parts.mirror().run(run, metrics=arrays)

    def _mirror_version(self, name: str, *, number: int) -> None:
        if self._parts.mirror is None:
            return
        with self._parts.database.read() as tx:
            version = registry.get(tx, name, number=number)
        self._parts.mirror().version(documents.version(version))

    def _failed(self, act: Act, *, error: Exception) -> None:
        words = f"{type(error).__name__}: {error}"
        self._count(act.action)
        _LOG.warning(
            "%s %s failed, attempt %d: %s", act.action, act.payload, act.attempts + 1, words.partition("\n")[0]
        )
        give_up = isinstance(error, _FOR_GOOD)
        if give_up and act.action == "submit":
            problem = {"reason": "submit", "detail": words, "cure": getattr(error, "cure", None)}
            self._parts.runs.give_up(act.payload["run"], attempt=act.payload["attempt"], error=problem)
        with self._parts.database.write() as tx:
            outbox.failed(tx, act, error=words, now_us=self._parts.clock.now_us(), give_up=give_up)

    async def _each(self, seconds: float, step: Callable[[], object]) -> None:
        while True:
            try:
                await anyio.to_thread.run_sync(step, abandon_on_cancel=False)
            except Exception:  # noqa: BLE001 - the loop outlives every step
                # A step that fails now is tried again in a moment; what it was about is in the database.
                self._count(step.__name__)
                _LOG.exception("controller step %s", step.__name__)
            await asyncio.sleep(seconds)

    def _count(self, what: str) -> None:
        self.faults[what] = self.faults.get(what, 0) + 1


def owner() -> str:
    """This process as the owner of a lease: `host:pid:start_time`."""
    return f"{socket.gethostname()}:{os.getpid()}:{_start_time(os.getpid())}"


def dead(other: str) -> bool:
    """Whether the owner is of this host and its process is gone; of another host nobody knows."""
    host, _, rest = other.rpartition(":")
    host, _, pid = host.rpartition(":")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return _start_time(int(pid)) != rest


def _start_time(pid: int) -> str:
    """Field 22 of /proc/<pid>/stat; the name before it may hold spaces and brackets."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
