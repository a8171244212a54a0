"""The parent of data-plane children: starts them, sees within 100 ms that one is gone, within a second that one hangs.

Used by `replica.py` and `standalone.py`. Keeps the port reserved while no child has it, and seals what children have
finished writing. Never answers a request.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rlaas_ray.data import seal
from rlaas_ray.errors import Unavailable
from rlaas_ray.serve.status import ListenerConfig, Status, StatusPage, start_ticks
from rlaas_ray.specs.seams import Clock

LOOK_S = 0.1
HUNG_S = 1.0
# When this thread itself is late by as much, the machine has no time for anybody: a stale heartbeat then proves nothing.
STARVED_S = 0.4
# Imports and the first load of policies, on a machine that is busy starting everything else too.
FIRST_BEAT_S = 20.0
LISTENING_S = 60.0
RESPAWNS, WITHIN_S = 5, 60.0
SEAL_S = 30.0
_logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True, eq=False)
class _Child:
    process: subprocess.Popen[bytes]
    page: StatusPage
    started_s: float


class Watchdog:
    """`processes` children on one port. Port 0 in `config`: the kernel chooses, `port` says which."""

    def __init__(self, config: ListenerConfig, *, clock: Clock, processes: int = 1) -> None:
        self._clock = clock
        self._reserved = _reserve(config.host, config.port)
        self.port: int = self._reserved.getsockname()[1]
        self._folder = Path(tempfile.mkdtemp(prefix="rlaas-listener-"))
        generation = start_ticks(os.getpid()) or 0
        self._config = dataclasses.replace(config, port=self.port, generation=generation)
        self._children: list[_Child] = []
        self._processes = processes
        # Started and waiting: importing costs a second or more, which a respawn would otherwise add to its gap.
        self._spare: subprocess.Popen[bytes] | None = None
        self._excused_s = 0.0
        self._respawned: deque[float] = deque()
        self._stopping = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="rlaas-watchdog", daemon=True),
            threading.Thread(target=self._seal, name="rlaas-seal", daemon=True),
        ]

    @property
    def url(self) -> str:
        """Where the children answer."""
        return f"http://{self._config.host}:{self.port}"

    @property
    def pids(self) -> list[int]:
        """The children's processes."""
        return [child.process.pid for child in self._children]

    def spawn(self) -> None:
        """Start the children and do not wait: their imports take a while, in which the caller may do its own work."""
        self._children = [self._spawn(index) for index in range(self._processes)]

    def start(self) -> None:
        """Returns when every child listens. Raises Unavailable when one does not."""
        if not self._children:
            self.spawn()
        try:
            for child in self._children:
                self._wait_listening(child)
        except Unavailable:
            self.stop()
            raise
        for thread in self._threads:
            thread.start()

    def statuses(self) -> list[Status]:
        """A look at each child's page."""
        return [child.page.read() for child in self._children]

    def check(self) -> None:
        """Raises Unavailable when children die faster than respawning makes sense."""
        now_s = self._clock.monotonic_s()
        recent = [at for at in self._respawned if now_s - at < WITHIN_S]
        if len(recent) >= RESPAWNS:
            raise Unavailable(
                f"the listener on port {self.port} keeps dying",
                given=f"{len(recent)} respawns in {WITHIN_S:g} s",
                cure=f"Its last words stand in {self._log_path()}.",
            )

    def stop(self, *, grace_s: float | None = None) -> None:
        """Let the children drain, end who does not, seal the log."""
        self._stopping.set()
        grace = self._config.drain_s + 2 if grace_s is None else grace_s
        for child in self._children:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        until_s = self._clock.monotonic_s() + grace
        for child in self._children:
            try:
                child.process.wait(max(0.0, until_s - self._clock.monotonic_s()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
            _close(child)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        if self._spare is not None:
            self._spare.kill()
            self._spare.wait()
            for pipe in (self._spare.stdin, self._spare.stdout):
                _pipe(pipe).close()
        self._reserved.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        seal.seal_all(self._config.data)

    # --- children -----------------------------------------------------------------------------------------------------

    def _spawn(self, index: int) -> _Child:
        page_path = self._folder / f"{index}.page"
        page = StatusPage(page_path)
        page.clear()
        config = dataclasses.replace(self._config, status=str(page_path))
        process, self._spare = self._spare or self._started(), None
        with contextlib.suppress(BrokenPipeError):
            _pipe(process.stdin).write(config.to_json().encode() + b"\n")
            _pipe(process.stdin).close()
        return _Child(process=process, page=page, started_s=self._clock.monotonic_s())

    def _started(self) -> subprocess.Popen[bytes]:
        """A child that imports what it needs, and then waits on stdin for its settings."""
        log = self._log_path()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stderr:
            # A session of its own: Ray ends a worker's process group with the worker, and Ctrl-C goes to a terminal's.
            return subprocess.Popen(
                [sys.executable, "-m", "rlaas_ray.serve.listener"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
            )

    def _wait_listening(self, child: _Child) -> None:
        out = _pipe(child.process.stdout)
        ready, _, _ = select.select([out], [], [], LISTENING_S)
        if not ready or b"listening" not in out.readline():
            child.process.kill()
            child.process.wait()
            raise Unavailable(
                f"the listener on port {self.port} did not start",
                given=f"exit {child.process.returncode}",
                expected=f"`listening` within {LISTENING_S:g} s",
                cure=f"Its last words stand in {self._log_path()}.",
            )

    def _watch(self) -> None:
        looked_s = self._clock.monotonic_s()
        while not self._stopping.wait(LOOK_S):
            now_s = self._clock.monotonic_s()
            if now_s - looked_s > STARVED_S:
                self._excused_s = now_s + HUNG_S
            looked_s = now_s
            if self._spare is None or self._spare.poll() is not None:
                self._spare = self._started()
            for index, child in enumerate(self._children):
                if self._is_well(child):
                    continue
                self._respawned.append(self._clock.monotonic_s())
                while len(self._respawned) > RESPAWNS:
                    self._respawned.popleft()
                _close(child)
                # Not waited for: the other children are watched meanwhile, and the kernel sends nobody to one that does
                # not listen yet.
                self._children[index] = self._spawn(index)

    def _is_well(self, child: _Child) -> bool:
        code = child.process.poll()
        if code is not None:
            _logger.error("listener %d on port %d ended with %d", child.process.pid, self.port, code)
            return False
        now_s = self._clock.monotonic_s()
        beat_s = child.page.read().heartbeat_s
        stale = now_s - (beat_s or child.started_s + FIRST_BEAT_S - HUNG_S) > HUNG_S
        if not stale or now_s < self._excused_s:
            return True
        _logger.error("listener %d on port %d hangs and is ended", child.process.pid, self.port)
        # Asked first where it hangs: the stacks of its threads go to its log.
        child.process.send_signal(signal.SIGUSR1)
        self._stopping.wait(0.05)
        # SIGKILL also ends a stopped process; nothing gentler is heard by one that hangs.
        child.process.kill()
        child.process.wait()
        return False

    def _seal(self) -> None:
        while not self._stopping.wait(SEAL_S):
            try:
                seal.seal_all(self._config.data)
            except OSError as error:
                _logger.error("sealing the decision log failed: %s", error)  # noqa: TRY400 (tried again in 30 s)

    def _log_path(self) -> Path:
        return Path(self._config.home) / "log" / f"listener-{self.port}.log"


def _reserve(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen: the port stays ours between two children, and no connection goes to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise Unavailable(
            f"port {port} on {host}", given=str(error), cure="Another program has it; choose another port."
        ) from None
    return made


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None
    return pipe


def _close(child: _Child) -> None:
    with contextlib.suppress(OSError):
        _pipe(child.process.stdout).close()
    child.page.close()
