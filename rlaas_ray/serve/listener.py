"""The data-plane child: one process that owns a listening socket and answers decisions. `python -m rlaas_ray.serve.listener`.

Started and watched by `watchdog.py` (a Serve replica, or quickstart without Ray), told its settings on stdin. It never
imports Ray: no Ray process can end it, and it goes on for a while when its parent is gone.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from rlaas_ray.data import schema
from rlaas_ray.serve import plane
from rlaas_ray.serve.httpd import HttpServer
from rlaas_ray.serve.status import ListenerConfig, Status, StatusPage, Succession

HEARTBEAT_S = 0.1
# Longer than a killed Ray head takes to come back with its replicas (half a minute on a busy machine): an orphan hears the API
# as before, so it serves no stale epoch, and it ends as soon as a child of a newer parent answers on its port.
ORPHAN_S = 60.0
FIRST_ROUTES_S = 3.0
_logger = logging.getLogger(__name__)


class Child:
    """The process: its plane, its server, its heartbeat."""

    def __init__(self, config: ListenerConfig) -> None:
        self._config = config
        self._parent = os.getppid()
        self._orphan_since_s: float | None = None
        self._page = StatusPage(Path(config.status))
        self._succession = Succession(Path(config.home), port=config.port)
        self._plane = plane.build(pool=config.pool, home=Path(config.home), data=Path(config.data), auth=config.auth)
        self._server = HttpServer(self._plane.door, drain_s=config.drain_s, draining=self._drain)

    async def run(self) -> None:
        """Serve until told to end."""
        self._plane.routes.read_cache()
        self._start_routes()
        listening = _bound(self._config)
        beating = asyncio.create_task(self._beat())
        beating.add_done_callback(_told_if_failed)
        await self._first_routes()
        serving = asyncio.create_task(self._server.serve(sockets=[listening]))
        try:
            await self._server.listening.wait()
            self._succession.enter(pid=os.getpid(), generation=self._config.generation)
            # A full collection walks some hundred thousand objects of the libraries and holds the loop for tens of
            # milliseconds; they live as long as the process, so the collector need never look at them again.
            gc.collect()
            gc.freeze()
            # The parent waits for this line: only then is the port answered.
            sys.stdout.write('{"listening": true}\n')
            sys.stdout.flush()
            await serving
        finally:
            beating.cancel()
            self._succession.leave(pid=os.getpid())
            self._plane.close()

    def _start_routes(self) -> None:
        config = self._config
        address = f"{config.host}:{config.port}"
        if config.api is None:
            self._plane.routes.start_watching()
        else:
            self._plane.routes.start(api=config.api, key=config.key or "", listener=address, pid=os.getpid())

    async def _first_routes(self) -> None:
        """Give the first answer of the API a moment, so that who hears `listening` finds endpoints; then serve regardless."""
        for _ in range(round(FIRST_ROUTES_S / 0.01)):
            if self._plane.answerer.state.ready:
                return
            await asyncio.sleep(0.01)

    async def _beat(self) -> None:
        """The heartbeat comes from the loop itself: a blocked loop is a stale one."""
        while True:
            now_s = self._plane.clock.monotonic_s()
            door = self._plane.door
            self._page.write(
                Status(
                    heartbeat_s=now_s,
                    requests=door.requests,
                    errors=door.errors,
                    inflight=door.inflight,
                    queue=door.waiting,
                    busy_ns=round(door.busy_s * 1e9),
                    epoch=self._plane.answerer.state.epoch,
                    pid=os.getpid(),
                    log_dropped=self._plane.writer.dropped,
                )
            )
            self._plane.metrics.inflight.set(door.inflight)
            self._plane.writer.tick()
            self._look_for_parent(now_s)
            await asyncio.sleep(HEARTBEAT_S)

    def _look_for_parent(self, now_s: float) -> None:
        if self._orphan_since_s is None:
            if os.getppid() != self._parent:
                self._orphan_since_s = now_s
                _logger.warning("parent %d is gone; serving as an orphan for up to %g s", self._parent, ORPHAN_S)
            return
        over = now_s - self._orphan_since_s >= ORPHAN_S
        if (over or self._succession.taken_over(generation=self._config.generation)) and not self._server.should_exit:
            self._server.drain()

    def _drain(self) -> None:
        self._plane.answerer.draining = True


def _told_if_failed(task: asyncio.Task[None]) -> None:
    # Without a heartbeat the parent ends this process within a second: the reason must be in the log by then.
    if not task.cancelled() and task.exception() is not None:
        _logger.error("the heartbeat ended", exc_info=task.exception())


def _bound(config: ListenerConfig) -> socket.socket:
    """A socket of the port's group: several processes listen, the kernel spreads connections over them."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    # Answers are one small write each: waiting to fill a packet would only add time.
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.bind((config.host, config.port))
    made.setblocking(False)  # noqa: FBT003 (the standard library's own signature)
    return made


def main() -> None:
    """Read the settings from stdin and serve."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    schema.warm_up()
    told = sys.stdin.readline()
    # A spare child may wait here for long; when its parent ends, stdin does, and so does the child.
    if told:
        uvloop.run(Child(ListenerConfig.from_json(told)).run())


if __name__ == "__main__":
    main()
