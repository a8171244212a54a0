"""The whole control plane on twins: the real application and API over a real SQLite file, with a clock that moves when told.

For tests of control and API, the users' too. No socket, no process, no Ray: `ask` goes through ASGI, `tick` steps the loop.
"""

from __future__ import annotations

import asyncio
import functools
import tempfile
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from rlaas_ray import wiring
from rlaas_ray.api import app
from rlaas_ray.control.application import Application
from rlaas_ray.settings import Settings
from rlaas_ray.store import database, schema
from rlaas_ray.testing import rows
from rlaas_ray.testing.clock import ManualClock
from rlaas_ray.testing.log import MemoryDecisionLog
from rlaas_ray.testing.mirror import MemoryMirror
from rlaas_ray.testing.places import TwinPlace
from rlaas_ray.testing.pools import MemoryPools


class House:
    """`restart` builds the application anew on the same database, as a new process would; the twins live on."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True)
        (home / "rlaas.db").write_bytes(_migrated())
        self.clock = ManualClock()
        self.log = MemoryDecisionLog(empty_decisions=rows.decisions([]), empty_rewards=rows.rewards([]))
        self.place = TwinPlace()
        self.pools = MemoryPools()
        self.mirror = MemoryMirror()
        self.application: Application
        self.api: FastAPI
        self.restart()

    @property
    def key(self) -> str:
        """The admin key."""
        return (self.home / "admin-key").read_text()

    def restart(self) -> None:
        """Another process on the same home."""
        given = wiring.Given(
            clock=self.clock,
            log=self.log,
            places={"here": self.place, "ray": self.place},
            pools=self.pools,
            mirror=self.mirror,
        )
        self.application = wiring.build(Settings(home=self.home), inline=False, given=given)
        self.api = app.create(self.application)

    def tick(self, seconds: float = 0.0) -> None:
        """Let `seconds` pass, then one step of everything that the loop does."""
        self.clock.advance(seconds)
        loop = self.application.loop
        for step in (loop.hold, loop.work_off, loop.judge, loop.tend, loop.sweep, loop.keep_pools, loop.keep_house):
            step()

    def ask(
        self, method: str, path: str, *, json: Any = None, key: str | None = None, **headers: str
    ) -> httpx.Response:
        """One request. `key` None is the admin's, "" is none; `headers` with underscores for dashes."""
        return asyncio.run(self.send(method, path, json=json, key=key, **headers))

    async def send(
        self, method: str, path: str, *, json: Any = None, key: str | None = None, **headers: str
    ) -> httpx.Response:
        """`ask` inside a loop."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        secret = self.key if key is None else key
        if secret:
            told["Authorization"] = f"Bearer {secret}"
        transport = httpx.ASGITransport(self.api)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", headers=told) as client:
            return await client.request(method, path, json=json)


@functools.cache
def _migrated() -> bytes:
    """An empty database with every table: migrating anew for each test would take longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        made = database.Database(f"sqlite:///{folder}/rlaas.db")
        schema.migrate(made)
        made.close()
        return (Path(folder) / "rlaas.db").read_bytes()
