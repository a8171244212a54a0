"""Keeps the control API and the Ray head alive: starts them, adopts them, starts them again, and gives up loudly.

Started by `up` in a session of its own, with its plan on stdin. Standard library alone: it knows no Ray, no HTTP, no
database, and ends (SIGTERM) without touching its children.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlaas_ray.jobs import processes

_FIRST_S, _LONGEST_S = 0.5, 10.0
_CALM_S = 60.0  # life after which the delay is back to the first one; also the window in which deaths are counted
_DEATHS = 5
_LOG_BYTES, _LOGS = 10 * 2**20, 10


@dataclass(kw_only=True)
class Child:
    """One child: what starts it, and how it has fared."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    directory: Path
    pid: int = 0
    start_time: int = 0
    state: str = "starting"
    restarts: int = 0
    last: list[str] = field(default_factory=list)
    descriptor: int | None = None
    process: subprocess.Popen[bytes] | None = None
    began_s: float = 0.0
    delay_s: float = _FIRST_S
    due_s: float | None = None
    deaths_s: deque[float] = field(default_factory=lambda: deque(maxlen=_DEATHS))

    def adopt(self, told: dict[str, Any]) -> bool:
        """Take over the process that runtime.json names, if it lives."""
        descriptor = processes.watch(told["pid"], told["start_time"])
        if descriptor is None:
            return False
        self.pid, self.start_time, self.descriptor = told["pid"], told["start_time"], descriptor
        self.state, self.restarts, self.began_s = "running", told.get("restarts", 0), time.monotonic()
        return True

    def start(self) -> None:
        """Start it, after ending what its predecessor left in its session."""
        self.due_s = None
        if self.pid:
            for member in processes.in_session(self.pid):
                began = processes.start_time(member)
                if began is not None and began >= self.start_time:
                    processes.send(member, began, number=signal.SIGKILL)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - the plan is our own
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.directory,
                start_new_session=True,
            )
        self.pid, self.began_s = self.process.pid, time.monotonic()
        self.start_time = processes.start_time(self.pid) or 0
        self.descriptor = os.pidfd_open(self.pid)  # our own child: the pid is held until we reap it
        self.state = "running"

    def died(self) -> None:
        """Reap it and say when it is to be started again, or that it has failed for good."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None
        code = self.process.wait() if self.process is not None else None
        self.process = None
        now_s = time.monotonic()
        self.deaths_s.append(now_s)
        if now_s - self.began_s >= _CALM_S:
            self.delay_s = _FIRST_S
        _say(f"{self.name} (pid {self.pid}) ended with {code} after {now_s - self.began_s:.1f} s")
        if len(self.deaths_s) == _DEATHS and now_s - self.deaths_s[0] <= _CALM_S:
            self.state, self.last = "failed", _tail(self.log, lines=20)
            _say(f"{self.name} FAILED: {_DEATHS} deaths in {_CALM_S:.0f} s; not started again. Its last lines:")
            for line in self.last:
                _say(f"  {line}")
            return
        self.state, self.restarts = "starting", self.restarts + 1
        self.due_s, self.delay_s = now_s + self.delay_s, min(2 * self.delay_s, _LONGEST_S)

    def to_json(self) -> dict[str, Any]:
        """What runtime.json says of it."""
        return {name: getattr(self, name) for name in ("pid", "start_time", "state", "restarts", "last")}


def run(plan: dict[str, Any]) -> None:
    """Until SIGTERM."""
    state = Path(plan["state"])
    children = [_child(name, told) for name, told in plan["children"].items()]
    told = json.loads(state.read_text()).get("children") or {}
    for child in children:
        if not (child.name in told and child.adopt(told[child.name])):
            child.pid, child.start_time = (
                told.get(child.name, {}).get("pid", 0),
                told.get(child.name, {}).get("start_time", 0),
            )
            child.start()
        _say(f"{child.name} is pid {child.pid}")
    _write(state, children)
    while True:
        if _turn(children):
            _write(state, children)
        for child in children:
            _rotate(child.log)


def _turn(children: list[Child]) -> bool:
    """Wait for a death or a start that is due (a minute at most); whether something changed."""
    poll = select.poll()
    watched = {child.descriptor: child for child in children if child.descriptor is not None}
    for descriptor in watched:
        poll.register(descriptor, select.POLLIN)
    waits = [child.due_s - time.monotonic() for child in children if child.due_s is not None]
    ready = poll.poll(max(0.0, min([*waits, 60.0])) * 1000)
    for descriptor, _ in ready:
        watched[descriptor].died()
    due = [child for child in children if child.due_s is not None and child.due_s <= time.monotonic()]
    for child in due:
        child.start()
        _say(f"{child.name} started again, pid {child.pid}")
    return bool(ready or due)


def _child(name: str, told: dict[str, Any]) -> Child:
    return Child(
        name=name,
        command=told["command"],
        environment=told["environment"],
        log=Path(told["log"]),
        directory=Path(told["directory"]),
    )


def _write(state: Path, children: list[Child]) -> None:
    document = json.loads(state.read_text())
    mine = os.getpid()
    document["supervisor"] = {"pid": mine, "start_time": processes.start_time(mine), "state": "running", "restarts": 0}
    document["children"] = {child.name: child.to_json() for child in children}
    fresh = state.with_suffix(".supervisor")
    fresh.write_text(json.dumps(document, indent=1))
    fresh.replace(state)


def _rotate(log: Path) -> None:
    """Copy and truncate: the child keeps its descriptor, which appends."""
    if not log.exists() or log.stat().st_size < _LOG_BYTES:
        return
    for number in range(_LOGS - 1, 0, -1):
        older = log.with_name(f"{log.name}.{number}")
        if older.exists():
            older.replace(log.with_name(f"{log.name}.{number + 1}"))
    shutil.copyfile(log, log.with_name(f"{log.name}.1"))
    os.truncate(log, 0)


def _tail(log: Path, *, lines: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 8192))
        return file.read().decode(errors="replace").splitlines()[-lines:]


def _say(words: str) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {words}", flush=True)


def main() -> None:
    """Read the plan from stdin and keep it."""
    plan = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run(plan)


if __name__ == "__main__":
    main()
