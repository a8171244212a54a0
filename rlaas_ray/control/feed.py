"""What replicas are told: route tables beyond an epoch, where the bundles lie, whose keys may decide; and where replicas listen.

Called by `GET /internal/routes` (a long poll) and, for addresses, by endpoints and forwarding. The listeners it remembers are
those that asked lately: a process that is gone asks no more.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlaas_ray.control.bell import Bell
from rlaas_ray.specs.seams import Clock
from rlaas_ray.store import endpoints, keys, registry
from rlaas_ray.store.database import Database

_HEARD_S = 60.0  # two and a half polls
_DECIDERS = ("decider", "operator", "admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A data-plane process that asked lately."""

    pool: str
    address: str
    pid: int | None
    epoch: int
    heard_us: int


class Feed:
    """The tables of each pool, and who listens."""

    def __init__(self, *, database: Database, clock: Clock, pepper_path: Path) -> None:
        self._database = database
        self._clock = clock
        self._pepper_path = pepper_path
        self._lock = threading.Lock()
        self._listeners: dict[str, Listener] = {}
        self._told: dict[str, str] = {}  # listener -> the keys it was told last
        self.bell = Bell()

    def news(self, pool: str, *, after_epoch: int, listener: str | None, last: bool = False) -> dict[str, Any] | None:
        """Tables beyond `after_epoch` with all they need; None when this listener has been told tables and keys already.

        Who has no address (None) is told the keys at the `last` look, whether they changed or not.
        """
        with self._database.read() as tx:
            tables = endpoints.newest(tx, pool=pool, after_epoch=after_epoch)
            living = keys.living(tx, roles=_DECIDERS, now_us=self._clock.now_us())
            mark = ",".join(key.id for key in living)
            if not tables and after_epoch >= 0 and not (last if listener is None else self._told.get(listener) != mark):
                return None
            digests = sorted({arm.digest for table in tables if not table.deleted for arm in table.arms})
            bundles = registry.uris(tx, digests)
        if listener is not None:
            self._told[listener] = mark
        return {
            "epoch": max((table.epoch for table in tables), default=max(after_epoch, 0)),
            "tables": [table.to_json() for table in tables],
            "bundles": bundles,
            "keys": [{"prefix": key.prefix, "hash": key.hash, "roles": list(key.roles)} for key in living],
            "pepper_path": str(self._pepper_path),
        }

    def hear(self, pool: str, *, address: str, pid: int | None, epoch: int) -> None:
        """A listener asked: it lives, and runs tables up to `epoch`."""
        heard = Listener(pool=pool, address=address, pid=pid, epoch=epoch, heard_us=self._clock.now_us())
        with self._lock:
            self._listeners[address] = heard

    def taken(self, pool: str, *, epoch: int) -> bool:
        """Whether all who listen for a pool run tables of that epoch: each asks again as soon as it has taken one."""
        return all(one.epoch >= epoch for one in self.listeners(pool))

    def forget(self, address: str) -> None:
        """A listener refused a connection."""
        with self._lock:
            self._listeners.pop(address, None)
            self._told.pop(address, None)

    def listeners(self, pool: str) -> list[Listener]:
        """Who listens for a pool, the newest heard first."""
        oldest = self._clock.now_us() - round(_HEARD_S * 1e6)
        with self._lock:
            living = [one for one in self._listeners.values() if one.pool == pool and one.heard_us >= oldest]
        return sorted(living, key=lambda one: (one.heard_us, one.address), reverse=True)
