"""A native listener without Ray: a data-plane child whose parent is the calling process.

For `rlaas quickstart --fast` and tests. With an API it long-polls it as any replica; without one it serves the tables that
it is handed, which is all that one machine and one process need.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rlaas_ray.serve.clock import ProcessClock
from rlaas_ray.serve.routes import Told
from rlaas_ray.serve.status import ListenerConfig, Status
from rlaas_ray.serve.watchdog import Watchdog
from rlaas_ray.specs.routing import RouteTable

POOL = "policies"


class Standalone:
    """A running listener. `url` answers until `stop`; also a context manager."""

    def __init__(self, watchdog: Watchdog, *, cache: Path) -> None:
        self._watchdog = watchdog
        self._cache = cache

    @property
    def url(self) -> str:
        """Base URL of the decision API."""
        return self._watchdog.url

    @property
    def pids(self) -> list[int]:
        """The child processes."""
        return self._watchdog.pids

    def statuses(self) -> list[Status]:
        """A look at each child's status page."""
        return self._watchdog.statuses()

    def route(self, tables: Iterable[RouteTable], *, bundles: Mapping[str, str]) -> None:
        """Replace the tables of a listener that has no API; it takes those of a greater epoch within 0.1 s."""
        write_tables(self._cache, tables=tables, bundles=bundles)

    def stop(self) -> None:
        """Drain and end."""
        self._watchdog.stop()

    def __enter__(self) -> Standalone:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


def start(
    *,
    home: Path,
    data: Path | None = None,
    tables: Iterable[RouteTable] = (),
    bundles: Mapping[str, str] | None = None,
    api: str | None = None,
    key: str | None = None,
    port: int = 0,
    processes: int = 1,
) -> Standalone:
    """Start a listener and return once it listens. Without `api`, `tables` and `bundles` (digest -> path) are what it serves."""
    cache = home / "routes" / f"{POOL}.json"
    if api is None:
        write_tables(cache, tables=tables, bundles=bundles or {})
    config = ListenerConfig(
        host="127.0.0.1",
        port=port,
        pool=POOL,
        home=str(home),
        data=str(data or home),
        status="",
        generation=0,
        api=api,
        key=key,
    )
    watchdog = Watchdog(config, clock=ProcessClock(), processes=processes)
    watchdog.start()
    return Standalone(watchdog, cache=cache)


def write_tables(cache: Path, *, tables: Iterable[RouteTable], bundles: Mapping[str, str]) -> None:
    """The file that a data plane reads its tables from."""
    held = tuple(tables)
    epoch = max((table.epoch for table in held), default=0)
    told = Told(epoch=epoch, tables=held, bundles=bundles, keys=(), pepper_path=None)
    body: dict[str, Any] = told.to_json()
    cache.parent.mkdir(parents=True, exist_ok=True)
    temporary = cache.with_suffix(".part")
    temporary.write_text(json.dumps(body), encoding="utf-8")
    temporary.rename(cache)
