"""The Serve deployment of a pool: parent of the data-plane child, and the same contract through Serve's own ingress.

Bound and run by `deployment.py`. Serve owns its lifecycle and health; sockets, decisions and routes are the child's, which
goes on when this process, Serve's proxy or its controller dies.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import ray
import starlette.requests
import starlette.responses
from ray import serve

from rlaas_ray.errors import InvalidInput
from rlaas_ray.serve import loopback, plane
from rlaas_ray.serve.asgi import Door
from rlaas_ray.serve.clock import ProcessClock
from rlaas_ray.serve.status import ListenerConfig
from rlaas_ray.serve.watchdog import Watchdog

# Serve asks three times before it replaces a replica; hangs of the child are found by the watchdog long before.
OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 1000,
    "health_check_period_s": 1.0,
    "health_check_timeout_s": 2.0,
    "graceful_shutdown_timeout_s": 5.0,
    "graceful_shutdown_wait_loop_s": 0.1,
    "ray_actor_options": {"num_cpus": 0},
    "logging_config": {"enable_access_log": False},
}
SETTINGS = frozenset({"host", "port", "processes", "pool", "home", "data", "api", "key", "auth", "drain_s"})


class Replica:
    """`settings` are the pool's: see `SETTINGS`. Returns from its start only when the child listens: Serve then counts it in."""

    def __init__(self, settings: dict[str, Any]) -> None:
        check(settings)
        loopback.hold(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        config = ListenerConfig(
            host=settings.get("host", "127.0.0.1"),
            port=settings["port"],
            pool=settings["pool"],
            home=settings["home"],
            data=settings["data"],
            status="",
            generation=0,
            api=settings["api"],
            key=settings["key"],
            auth=settings.get("auth", "loopback"),
            drain_s=settings.get("drain_s", 5.0),
        )
        self._watchdog = Watchdog(config, clock=ProcessClock(), processes=settings.get("processes", 1))
        self._watchdog.spawn()
        self._plane = plane.build(pool=config.pool, home=Path(config.home), data=Path(config.data), auth=config.auth)
        self._plane.routes.read_cache()
        self._watchdog.start()
        # Also polls for itself: what Serve's ingress answers follows the same epochs. Not told as a listener's address.
        self._plane.routes.start(api=settings["api"], key=settings["key"], listener="", pid=0)
        self._ticking: asyncio.Task[None] | None = None

    async def __call__(self, request: starlette.requests.Request) -> starlette.responses.Response:
        """One request through Serve's ingress."""
        if self._ticking is None:
            self._ticking = asyncio.create_task(self._tick())
        return await through(self._plane.door, request)

    def check_health(self) -> None:
        """Raises when the child dies again and again: Serve then replaces this replica."""
        self._watchdog.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What an autoscaling policy may look at: the native listener's requests pass Serve's own counters by."""
        statuses = self._watchdog.statuses()
        return {
            "native_requests": float(sum(status.requests for status in statuses)),
            "native_busy_s": sum(status.busy_ns for status in statuses) / 1e9,
            "native_queue": float(max((status.queue for status in statuses), default=0)),
        }

    def __del__(self) -> None:
        # Serve calls this after its own drain. A failed start may have made neither.
        with contextlib.suppress(AttributeError):
            self._plane.close()
        with contextlib.suppress(AttributeError):
            self._watchdog.stop()

    async def _tick(self) -> None:
        while True:
            self._plane.writer.tick()
            await asyncio.sleep(1.0)


async def through(door: Door, request: starlette.requests.Request) -> starlette.responses.Response:
    """The request handed to the door of this process, its answer as Serve wants it."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await door(request.scope, request.receive, send)
    head, body = sent[0], sent[1]
    response = starlette.responses.Response(content=body["body"], status_code=head["status"])
    # Serve's proxy puts the request id on the answer itself; twice would be two values.
    response.raw_headers = [(name, value) for name, value in head["headers"] if name != b"x-request-id"]
    return response


def application(settings: dict[str, Any], *, replicas: int) -> serve.Application:
    """The pool's app, with every setting said."""
    check(settings)
    deployment: Any = serve.deployment(Replica, name=f"pool-{settings['pool']}", num_replicas=replicas, **OPTIONS)
    bound: serve.Application = deployment.bind(settings)
    return bound


def check(settings: dict[str, Any]) -> None:
    """Refuse settings that nobody reads, before anything is deployed."""
    unknown = set(settings) - SETTINGS
    if unknown:
        # Serve's own doors let unknown keys pass in silence.
        raise InvalidInput("pool settings", given=sorted(unknown), expected=f"only {sorted(SETTINGS)}")
