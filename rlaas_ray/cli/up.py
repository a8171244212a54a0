"""`rlaas up`: bring the runtime of this home to life, or say that it lives.

The supervisor does the starting; this command prepares, looks and waits. A second `up` starts nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rlaas_ray import settings
from rlaas_ray.cli import down, lock, output, runtime
from rlaas_ray.errors import Conflict, InvalidInput, Unavailable, WorkFailed
from rlaas_ray.specs.runtime import Runtime

_PORT = 8000
_API_S, _POOL_S = 30.0, 120.0
_SESSIONS_KEPT = 3


@click.command()
@click.option(
    "--port", type=click.IntRange(1024, 65533), help="Port of the API; the two after it are the policy servers'. [8000]"
)
@click.option(
    "--no-wait", is_flag=True, help="Return when the API answers; do not wait for Ray and the policy servers."
)
@click.option("--foreground", is_flag=True, help="Stay; Ctrl-C is `rlaas down`.")
@output.json_option
def up(*, port: int | None, no_wait: bool, foreground: bool, as_json: bool) -> None:
    """Start the runtime: control API, Ray, policy servers."""
    home = settings.read().home
    with lock.held(home):
        found, fresh = ensure(home, port=port)
    if fresh:
        asks = f", which asks for the token in {found.ray.token_path}" if found.ray.token_path else ""
        output.say(f"RLaaS answers at {found.address} (Ray dashboard {found.ray.dashboard}{asks})")
    if not no_wait:
        wait_for_pools(home)
    if as_json:
        output.document({"address": found.address, "id": found.id, "ports": dict(found.ports), "started": fresh})
    else:
        click.echo(found.address)
    if foreground:
        _stay(home)


def ensure(home: Path, *, port: int | None) -> tuple[Runtime, bool]:
    """The runtime of this home, answering; and whether anything had to be started for that."""
    found = runtime.read(home)
    if found is not None and any(runtime.lives(child) for child in found.children.values()):
        if port is not None and port != found.ports["api"]:
            raise InvalidInput(
                "the runtime of this home runs with other flags",
                given=f"--port {port}",
                expected=f"--port {found.ports['api']}",
                cure="`rlaas down` first, or leave the flag out.",
            )
        failed = [name for name, child in found.children.items() if child.state == "failed"]
        if runtime.lives(found.supervisor) and not failed:
            wait_for_api(home)
            return found, False
        if found.supervisor is not None:
            down.end(found.supervisor, grace_s=5)  # it has given up on a child: a new one begins anew
    else:
        if found is not None:
            down.sweep(found)
        found = _new(home, port=port or _PORT)
    _supervise(home, found)
    wait_for_api(home)
    return runtime.read(home) or found, True


def wait_for_api(home: Path) -> None:
    """Until `/health` is 200. Raises WorkFailed with the last lines of its log when it ends instead."""
    began = time.monotonic()
    while True:
        found = runtime.read(home)
        if found is not None and runtime.healthy(found.ports["api"]):
            return
        _raise_if_failed(home, found, name="api")
        if time.monotonic() - began > _API_S:
            raise Unavailable(
                f"the API does not answer after {_API_S:.0f} s", cure=f"Its log: {home / 'log' / 'api.log'}"
            )
        _nap()


def wait_for_pools(home: Path) -> None:
    """Until a decision is possible: the native listener answers. Says on stderr what it waits for."""
    began = time.monotonic()
    stages: list[tuple[str, Callable[[Runtime], bool]]] = [("Ray", ray_answers), ("policy servers", pool_answers)]
    with output.Bar("starting") as bar:
        for number, (name, answers) in enumerate(stages):
            while True:
                found = runtime.read(home)
                if found is not None and answers(found):
                    break
                _raise_if_failed(home, found, name="head")
                waited = time.monotonic() - began
                if waited > _POOL_S:
                    raise Unavailable(
                        f"{name} not up after {_POOL_S:.0f} s",
                        cure=f"`rlaas status` and {home / 'log'} tell more; all that runs is left running.",
                    )
                bar.tell(
                    {"fraction": min(0.95, (number + waited / 30) / len(stages)), "message": f"waiting for {name}"}
                )
                _nap()
        bar.tell({"fraction": 1.0, "message": f"ready after {time.monotonic() - began:.1f} s"})


def ray_answers(found: Runtime) -> bool:
    """Whether the dashboard of the head answers to our token."""
    token = Path(found.ray.token_path).read_text() if found.ray.token_path else None
    return runtime.healthy(found.ports["dashboard"], path="/api/version", token=token)


def pool_answers(found: Runtime) -> bool:
    """Whether the native listener answers."""
    return runtime.healthy(found.ports["native"])


def _new(home: Path, *, port: int) -> Runtime:
    from importlib import metadata

    for number in (port, port + 1, port + 2):
        runtime.check_free(number)
    names = [*runtime.RAY_PORTS, *runtime.METRIC_PORTS]
    with runtime.free_ports(names) as ports:
        own = {"api": port, "ingress": port + 1, "native": port + 2, **ports}
        version = metadata.version("rlaas-ray")
        found = runtime.describe(home, runtime_id=str(uuid.uuid4()), version=version, ports=own, flags={"port": port})
    folder = Path(found.ray.temp_dir or home)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != home.stat().st_uid:
        raise Conflict(
            f"{folder} belongs to another user", cure="Set RLAAS_HOME to a shorter path: Ray's folder then lies in it."
        )
    _forget_sessions(folder)
    runtime.write(home, found)
    return found


def _supervise(home: Path, found: Runtime) -> None:
    plan = json.dumps(runtime.plan(home, found))
    with (home / "log" / "supervisor.log").open("ab") as log:
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "rlaas_ray.cli.supervisor"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=runtime.environment(home, runtime_id=found.id, url=found.address),
            cwd=home,
            start_new_session=True,
            text=True,
        )
        assert supervisor.stdin is not None
        supervisor.stdin.write(plan)
        supervisor.stdin.close()
    began = time.monotonic()
    while True:
        now: Runtime | None = runtime.read(home)
        if now is not None and now.supervisor is not None and now.supervisor.pid == supervisor.pid:
            supervisor.returncode = 0  # it is not ours to wait for
            return
        if supervisor.poll() is not None or time.monotonic() - began > 10:
            raise WorkFailed("the supervisor did not start", cure=f"Its log: {home / 'log' / 'supervisor.log'}")
        _nap(0.02)


def _raise_if_failed(home: Path, found: Runtime | None, *, name: str) -> None:
    child: Any = None if found is None else found.children.get(name)
    if child is not None and child.state == "failed":
        last = "\n  ".join(child.last[-8:])
        raise WorkFailed(
            f"{name} ended again and again; its last lines:\n  {last}",
            cure=f"Its log: {home / 'log' / f'{name}.log'}. `rlaas up` tries again, `rlaas down` ends the rest.",
        )


def _forget_sessions(folder: Path) -> None:
    sessions = sorted(path for path in folder.glob("session_2*") if path.is_dir())
    for old in sessions[: -_SESSIONS_KEPT or None]:
        shutil.rmtree(old, ignore_errors=True)


def _stay(home: Path) -> None:
    output.say("Ctrl-C ends it.")
    try:
        while True:
            found = runtime.read(home)
            if found is None or found.supervisor is None or not runtime.lives(found.supervisor):
                output.say("the supervisor is gone; `rlaas up` takes over what still runs")
                return
            down.wait(found.supervisor, timeout_s=60)
    except KeyboardInterrupt:
        with lock.held(home):
            down.stop(home)


def _nap(seconds: float = 0.1) -> None:
    settings.SystemClock().sleep(seconds)
