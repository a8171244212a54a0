"""What a quickstart stands on: a home of its own, and a control API with policy servers that live as long as it does.

`full` is `rlaas up` and `rlaas down`; `fast` is the API and the native listener as two children, without a supervisor and
without a Ray cluster. Called by quickstart.py. Whatever happens, nothing is left behind.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rlaas_ray import settings
from rlaas_ray.cli import runtime, server
from rlaas_ray.errors import Conflict, TimedOut, WorkFailed
from rlaas_ray.jobs import processes
from rlaas_ray.sdk.client import RLaaSClient
from rlaas_ray.specs.seams import Clock

UP_S, DOWN_S, API_S = 150.0, 60.0, 40.0


@contextmanager
def home() -> Iterator[Path]:
    """A home that is gone afterwards. The path is short: names of Ray's sockets have 107 bytes."""
    made = Path(tempfile.mkdtemp(prefix="rlaas-"))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def full(where: Path) -> Iterator[RLaaSClient]:
    """The whole runtime, by the same commands that a user types."""
    port = _three_ports()
    try:
        _command(["up", "--port", str(port)], where=where, limit_s=UP_S)
        yield RLaaSClient(f"http://127.0.0.1:{port}", api_key=server.admin_key(where), timeout_s=60.0)
    finally:
        _command(["down"], where=where, limit_s=DOWN_S)


@contextmanager
def fast(where: Path) -> Iterator[RLaaSClient]:
    """The API as a child and the native listener as another: no supervisor, no Ray cluster."""
    from rlaas_ray.serve import standalone

    clock = settings.SystemClock()
    with runtime.free_ports(["api"]) as ports:
        port = ports["api"]
    url = f"http://127.0.0.1:{port}"
    quiet = ["--no-access-log", "--timeout-graceful-shutdown", "5"]
    command = [sys.executable, "-m", "uvicorn", "--factory", "rlaas_ray.wiring:api", "--host", "127.0.0.1", *quiet]
    with _nobody_left(where), child([*command, "--port", str(port)], where=where, name="api") as process:
        log = where / "log" / "api.log"
        await_true(lambda: runtime.healthy(port), process=process, log=log, limit_s=API_S, clock=clock)
        key = server.admin_key(where)
        with standalone.start(home=where, api=url, key=key):
            yield RLaaSClient(url, api_key=key, timeout_s=60.0)


@contextmanager
def _nobody_left(where: Path) -> Iterator[None]:
    """Ends what still runs in this home afterwards: an interrupted training outlives the API that started it."""
    try:
        yield
    finally:
        for pid in processes.marked("RLAAS_HOME", str(where)):
            began = processes.start_time(pid)
            if began is not None:
                processes.end(pid, began, grace_s=5.0)


def environment(where: Path) -> dict[str, str]:
    """Of the children: this home and none of the user's own RLAAS_ variables, which may name their database."""
    kept = settings.child_environment()
    return {name: value for name, value in kept.items() if not name.startswith("RLAAS_")} | {"RLAAS_HOME": str(where)}


@contextmanager
def child(command: list[str], *, where: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A child process in a session of its own (Ctrl-C is ours to handle), ended with the block."""
    runtime.prepare(where)
    with (where / "log" / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command line
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(where),
            cwd=where,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def await_true(
    true: Callable[[], bool], *, process: subprocess.Popen[bytes], log: Path, limit_s: float, clock: Clock
) -> None:
    """Until `true()`. Raises WorkFailed when the process ends before, TimedOut after `limit_s`."""
    began_s = clock.monotonic_s()
    while not true():
        if process.poll() is not None:
            raise WorkFailed(f"{log.stem} ended with {process.returncode}", given=_tail(log), cure=f"Its log: {log}")
        if clock.monotonic_s() - began_s > limit_s:
            raise TimedOut(f"{log.stem} does not answer", given=f"{limit_s:.0f} s", cure=f"Its log: {log}")
        clock.sleep(0.1)


def _command(arguments: list[str], *, where: Path, limit_s: float) -> None:
    words = f"rlaas {' '.join(arguments)}"
    try:
        done = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "rlaas_ray.cli", *arguments],
            env=environment(where),
            capture_output=True,
            text=True,
            timeout=limit_s,
            start_new_session=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TimedOut(f"`{words}` did not return", given=f"{limit_s:.0f} s", cure=f"Logs: {where / 'log'}") from None
    if done.returncode:
        raise WorkFailed(f"`{words}` ended with {done.returncode}", given=done.stderr.strip()[-600:])


def _three_ports() -> int:
    """The first of three free ports in a row, above those that `up` takes by itself."""
    for port in range(18_000, 28_000, 10):
        if all(runtime.listener(port + i) is None for i in range(3)):
            try:
                for i in range(3):
                    runtime.check_free(port + i)
            except Conflict:
                continue
            return port
    raise WorkFailed("no three free ports in a row", given="18000 to 28000")


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-600:] if log.exists() else ""
