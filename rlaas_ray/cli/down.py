"""`rlaas down`: end what `rlaas up` started, all of it and nothing else.

Ours are the sessions of the supervisor, the API and the head, and what carries the runtime's id in its environment. Never
`ray stop`: that ends every Ray process of the machine.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from rlaas_ray import settings
from rlaas_ray.cli import lock, output, runtime
from rlaas_ray.jobs import processes
from rlaas_ray.specs import runtime as document
from rlaas_ray.specs.runtime import Process, Runtime

_JOBS_S, _SHUTDOWN_S, _HEAD_S, _API_S = 30.0, 25.0, 15.0, 8.0


@click.command()
@output.json_option
def down(*, as_json: bool) -> None:
    """Stop the runtime; touches nothing that `up` did not start."""
    home = settings.read().home
    with lock.held(home):
        ended = stop(home)
    if as_json:
        output.document(ended)


def stop(home: Path) -> dict[str, Any]:
    """End the runtime of this home; gives what there was to end."""
    began = time.monotonic()
    found = runtime.read(home)
    if found is None:
        output.say("nothing runs here")
        return {"ended": 0, "seconds": 0.0}
    before = len(ours(found))
    _stop_jobs(found)
    if found.supervisor is not None:
        end(found.supervisor, grace_s=5)
    found = runtime.read(home) or found  # the supervisor kept the pids current to the last
    head, api = found.children.get("head"), found.children.get("api")
    if head is not None and runtime.lives(head):
        _shut_serve(found)
        end(head, grace_s=_HEAD_S)
    if api is not None:
        end(api, grace_s=_API_S)
    sweep(found)
    (home / document.FILE).unlink(missing_ok=True)
    seconds = round(time.monotonic() - began, 1)
    output.say(f"down: {before} processes ended in {seconds} s")
    return {"ended": before, "seconds": seconds}


def ours(found: Runtime) -> set[int]:
    """The living processes of this runtime."""
    leaders = [found.supervisor, *found.children.values()]
    pids: set[int] = set(processes.marked("RLAAS_RUNTIME_ID", found.id))
    for leader in leaders:
        if leader is not None:
            pids |= {
                pid for pid in processes.in_session(leader.pid) if (processes.start_time(pid) or 0) >= leader.start_time
            }
    return pids - _ancestors()


def sweep(found: Runtime) -> None:
    """Kill whatever of this runtime is left."""
    for _ in range(3):  # what is being started while we look is there at the next look
        left = ours(found)
        if not left:
            return
        for pid in left:
            began = processes.start_time(pid)
            if began is not None and processes.send(pid, began, number=signal.SIGKILL):
                processes.wait(pid, began, timeout_s=2)


def end(process: Process, *, grace_s: float) -> None:
    """SIGTERM to exactly that process, SIGKILL after the grace; its session is left to the sweep."""
    if processes.send(process.pid, process.start_time, number=signal.SIGTERM) and not wait(process, timeout_s=grace_s):
        processes.send(process.pid, process.start_time, number=signal.SIGKILL)
        wait(process, timeout_s=5)


def wait(process: Process, *, timeout_s: float) -> bool:
    """Whether it ended within that time."""
    return processes.wait(process.pid, process.start_time, timeout_s=timeout_s)


def _stop_jobs(found: Runtime) -> None:
    """Ask runs to checkpoint, through the API, which takes their final states; where it is dead the sweep must do."""
    if not runtime.lives(found.children.get("api")):
        return
    from rlaas_ray.cli import server

    try:
        with server.of_runtime(found) as client:
            going = [run for state in ("queued", "running") for run in client.runs.list(limit=None, state=state)]
            for run in going:
                output.say(f"stopping {run['id']}; `rlaas runs resume {run['id']}` goes on later")
                client.post(f"/api/v1/runs/{run['id']}/stop")
            until = time.monotonic() + _JOBS_S
            while going and time.monotonic() < until:
                settings.SystemClock().sleep(0.3)
                going = client.runs.list(limit=None, state="running") + client.runs.list(limit=None, state="stopping")
    except Exception as error:  # noqa: BLE001 - an API that is ill must not keep the rest from being ended
        output.say(f"runs could not be stopped in order: {type(error).__name__} {error}")


def _shut_serve(found: Runtime) -> None:
    """Serve first: a head with live Serve actors drains for its full limit (32.6 s measured against 6.6 s)."""
    command = [sys.executable, "-m", "rlaas_ray.serve.deployment", "shutdown", "--address", found.ray.address]
    own = settings.child_environment(RLAAS_RUNTIME_ID=found.id, **found.ray.environment())
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            command, env=own, capture_output=True, text=True, timeout=_SHUTDOWN_S, check=False
        )
    except subprocess.TimeoutExpired:
        output.say(f"Serve did not shut down within {_SHUTDOWN_S:.0f} s; ending it with its head")
        return
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        output.say(f"Serve's shutdown ended with {done.returncode}: {last}")


def _ancestors() -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1:
        found.add(pid)
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2].split()
        pid = int(status[1])
    return found
