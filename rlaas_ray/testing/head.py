"""A Ray head for tests: on loopback, small, in a folder and a session of its own, gone when told.

For tests that only a real Ray can answer. Never touches another cluster of the machine.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx

from rlaas_ray import settings

_PORTS = (
    "--port",
    "--node-manager-port",
    "--object-manager-port",
    "--ray-client-server-port",
    "--dashboard-port",
    "--dashboard-agent-listen-port",
    "--dashboard-agent-grpc-port",
    "--runtime-env-agent-port",
    "--metrics-export-port",
)


class Head:
    """`address` for drivers, `dashboard` for HTTP, `environment` for every process that talks to it."""

    def __init__(self, folder: Path) -> None:
        ports = _free_ports(len(_PORTS) + 2)
        self.address = f"127.0.0.1:{ports[0]}"
        self.dashboard = f"http://127.0.0.1:{ports[_PORTS.index('--dashboard-port')]}"
        self.environment: Mapping[str, str] = settings.child_environment(
            RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
            RAY_AUTH_MODE="disabled",
            RAY_worker_niceness="0",
            AUTOSCALER_METRIC_PORT=str(ports[-1]),
            DASHBOARD_METRIC_PORT=str(ports[-2]),
        )
        told = [part for name, port in zip(_PORTS, ports, strict=False) for part in (name, str(port))]
        command = [
            str(Path(sys.executable).with_name("ray")),
            *("start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=true"),
            *("--num-cpus", "2", "--object-store-memory", "100000000", "--temp-dir", str(folder)),
            *told,
        ]
        with (folder / "head.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 (our own command)
                command, stdout=log, stderr=log, env=dict(self.environment), start_new_session=True
            )

    def wait(self, timeout_s: float = 60.0) -> None:
        """Until the dashboard answers, which is when pools can be applied."""
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            try:
                if httpx.get(f"{self.dashboard}/api/version", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.2)  # noqa: TID251 (a real head takes real time)
            if self._process.poll() is not None:
                break
        msg = f"the Ray head did not come up in {timeout_s:g} s, exit {self._process.poll()}"
        raise RuntimeError(msg)

    def kill_replicas(self) -> int:
        """SIGKILL every Serve replica of this head; gives how many there were."""
        killed = 0
        for pid in _session(self._process.pid):
            name = Path(f"/proc/{pid}/cmdline").read_bytes()
            if name.startswith(b"ray::ServeReplica"):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return killed

    def stop(self) -> None:
        """End every process of the head's session."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in _session(self._process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def _session(leader: int) -> list[int]:
    """Processes of a session: field 6 of /proc/<pid>/stat."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="latin-1").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == leader:
            found.append(int(path.parent.name))
    return found


def _free_ports(count: int) -> list[int]:
    """Ports that are free now, all held open together before they are let go."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in held]
    finally:
        for one in held:
            one.close()
