"""The runtime of a home, as seen from outside: what runtime.json says, which of it lives, and what its parts are started with.

Called by up, down, status and by every command that looks for a server. Loads no client library: a second `up` and a
completion must be quick. Never starts or ends anything itself.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rlaas_ray import settings
from rlaas_ray.errors import Conflict, RlaasError
from rlaas_ray.jobs import processes
from rlaas_ray.specs import runtime as document
from rlaas_ray.specs.runtime import Process, RayAddress, Runtime

RAY_PORTS = {
    "gcs": "--port",
    "node_manager": "--node-manager-port",
    "object_manager": "--object-manager-port",
    "ray_client": "--ray-client-server-port",
    "dashboard": "--dashboard-port",
    "agent_listen": "--dashboard-agent-listen-port",
    "agent_grpc": "--dashboard-agent-grpc-port",
    "runtime_env": "--runtime-env-agent-port",
    "metrics": "--metrics-export-port",
}
METRIC_PORTS = {"autoscaler_metrics": "AUTOSCALER_METRIC_PORT", "dashboard_metrics": "DASHBOARD_METRIC_PORT"}
_MIB = 2**20


def read(home: Path) -> Runtime | None:
    """What runtime.json of this home says; None where there is none."""
    try:
        text = (home / document.FILE).read_text()
    except FileNotFoundError:
        return None
    return document.from_json(json.loads(text))


def write(home: Path, found: Runtime) -> None:
    """Put runtime.json in place, whole or not at all."""
    fresh = home / f"{document.FILE}.new"
    fresh.write_text(json.dumps(found.to_json(), indent=1))
    fresh.replace(home / document.FILE)


def lives(process: Process | None) -> bool:
    """Whether that very process is alive."""
    return process is not None and processes.alive(process.pid, process.start_time)


def serving(home: Path) -> Runtime | None:
    """The runtime of this home if its API process lives."""
    try:
        found = read(home)
    except RlaasError:
        return None
    return found if found is not None and lives(found.children.get("api")) else None


def healthy(port: int, *, path: str = "/health", timeout_s: float = 1.0, token: str | None = None) -> bool:
    """Whether something on that loopback port answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {token}"} if token else {})
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def counted(port: int, name: str, *, timeout_s: float = 1.0) -> float:
    """The sum of a counter of `/metrics` on that loopback port, over its labels; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    except (OSError, http.client.HTTPException):
        return 0.0
    finally:
        connection.close()
    return sum(float(line.split()[-1]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))


def prepare(home: Path) -> None:
    """The folders of a home, readable by their owner alone."""
    for folder in (home, home / "log", home / "runs", home / "secrets", home / "modules"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    home.chmod(0o700)
    token = home / "ray-token"
    try:
        with os.fdopen(os.open(token, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
    except FileExistsError:
        token.chmod(0o600)


@contextmanager
def free_ports(names: list[str]) -> Iterator[dict[str, int]]:
    """Free loopback ports, all held open together, so that no two are the same; released at the end of the block."""
    with ExitStack() as stack:
        found = {}
        for name in names:
            held = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            held.bind(("127.0.0.1", 0))
            found[name] = held.getsockname()[1]
        yield found


def check_free(port: int, *, host: str = "127.0.0.1") -> None:
    """Raises Conflict naming the process that holds the port, if it is ours to see."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            holder = listener(port)
            raise Conflict(
                f"port {port} is in use{f' by {holder}' if holder else ''}",
                given=port,
                expected="three free ports in a row: API, Serve's ingress, native listener",
                cure=f"End that process, or choose another: `rlaas up --port {port + 100}`.",
            ) from error


def listener(port: int) -> str | None:
    """The process that listens on a port, as `pid 12 (command line)`; None where this user may not see it."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for pid in processes.every():
        try:
            links = {str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
        if links & inodes:
            return f"pid {pid} ({processes.command_line(pid)[:100]})"
    return None


def temp_dir(home: Path) -> Path:
    """Ray's folder: one per home, and short, for its sockets' names are limited to 107 bytes."""
    near = home / "r"
    if len(str(near)) <= 40:
        return near
    return Path(f"/tmp/rlaas-{hashlib.sha256(str(home).encode()).hexdigest()[:8]}")  # noqa: S108 - 0700, checked at use


def environment(home: Path, *, runtime_id: str, url: str) -> dict[str, str]:
    """The environment of all that `up` starts: the mark that says it is ours, and where users' modules lie."""
    inherited = settings.variable("PYTHONPATH")
    modules = str(home / "modules")
    ours = str(Path(sys.executable).parent)  # `ray job submit -- rlaas train spec.yaml` finds this very `rlaas`
    own = settings.child_environment(
        PATH=f"{ours}{os.pathsep}{settings.variable('PATH') or os.defpath}",
        RLAAS_HOME=str(home),
        RLAAS_RUNTIME_ID=runtime_id,
        RLAAS_URL=url,
        PYTHONPATH=f"{modules}{os.pathsep}{inherited}" if inherited else modules,
    )
    own.pop("RLAAS_API_KEY", None)  # the user's, for another server perhaps
    return own


def plan(home: Path, found: Runtime) -> dict[str, Any]:
    """What the supervisor is to keep alive."""
    own = environment(home, runtime_id=found.id, url=found.address)
    children = {
        "api": _child(home, "api", command=api_command(found), own={**own, **found.ray.environment()}),
        "head": _child(home, "head", command=head_command(found), own=head_environment(found, own=own)),
    }
    return {"state": str(home / document.FILE), "children": children}


def _child(home: Path, name: str, *, command: list[str], own: Mapping[str, str]) -> dict[str, Any]:
    log = str(home / "log" / f"{name}.log")
    return {"command": command, "environment": dict(own), "log": log, "directory": str(home)}


def api_command(found: Runtime) -> list[str]:
    """The control API: one plain ASGI process."""
    port = str(found.ports["api"])
    options = ["--host", "127.0.0.1", "--port", port, "--no-access-log", "--timeout-graceful-shutdown", "5"]
    return [sys.executable, "-m", "uvicorn", "--factory", "rlaas_ray.wiring:api", *options]


def head_command(found: Runtime) -> list[str]:
    """The Ray head. `--block`: one pid to watch, and it is Ray's own supervisor."""
    ports = [f"{option}={found.ports[name]}" for name, option in RAY_PORTS.items()]
    sizes = [f"--num-cpus={max(2, os.cpu_count() or 2)}", f"--object-store-memory={object_store_bytes()}"]
    places = ["--node-ip-address=127.0.0.1", "--dashboard-host=127.0.0.1", f"--temp-dir={found.ray.temp_dir}"]
    fixed = ["start", "--head", "--block", "--disable-usage-stats", "--include-dashboard=true"]
    return [sys.executable, "-m", "ray.scripts.scripts", *fixed, *places, *sizes, *ports]


def head_environment(found: Runtime, *, own: Mapping[str, str]) -> dict[str, str]:
    """The head's environment (platform.md 1.2 says why for each)."""
    joined = {name: value for name, value in found.ray.environment().items() if name != "RAY_ADDRESS"}
    metrics = {variable: str(found.ports[name]) for name, variable in METRIC_PORTS.items()}
    return {
        **own,
        **joined,
        **metrics,
        "RAY_worker_niceness": "0",  # children of workers would inherit 15
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "5",
        "RAY_JOB_STOP_WAIT_TIME_S": "30",  # 3 s is too short for a checkpoint
    }


def object_store_bytes() -> int:
    """0.15 of the memory between 200 MB and 4 GB, and at most half of what /dev/shm has free."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    wanted = max(200 * _MIB, min(int(0.15 * memory), 4096 * _MIB))
    return max(80 * _MIB, min(wanted, shutil.disk_usage("/dev/shm").free // 2))  # noqa: S108 - Ray's store lies there


def describe(
    home: Path, *, runtime_id: str, version: str, ports: Mapping[str, int], flags: Mapping[str, Any]
) -> Runtime:
    """A new runtime, before anything of it is started."""
    ray = RayAddress(
        address=f"127.0.0.1:{ports['gcs']}",
        dashboard=f"http://127.0.0.1:{ports['dashboard']}",
        token_path=str(home / "ray-token"),
        temp_dir=str(temp_dir(home)),
    )
    address = f"http://127.0.0.1:{ports['api']}"
    return Runtime(id=runtime_id, version=version, address=address, ports=dict(ports), ray=ray, flags=dict(flags))
