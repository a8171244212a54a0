"""Runtime: what `$RLAAS_HOME/runtime.json` says of the runtime that `rlaas up` started: its processes, ports and its Ray.

Written by `cli/runtime.py` and kept current by `cli/supervisor.py`; read by wiring (to reach Ray) and by every command (to
find the server). Never opens the file: a Runtime is parsed from its JSON values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rlaas_ray.errors import InvalidInput

FILE = "runtime.json"
FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process: its pid means nothing without its start time (`/proc/<pid>/stat` field 22), for pids are used again."""

    pid: int
    start_time: int
    state: str = "running"  # running | starting | failed
    restarts: int = 0
    last: tuple[str, ...] = ()  # last lines of its log, where it failed

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "pid": self.pid,
            "start_time": self.start_time,
            "state": self.state,
            "restarts": self.restarts,
            "last": list(self.last),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class RayAddress:
    """How to reach the Ray of this runtime. `attached`: somebody else's cluster, which `down` leaves standing."""

    address: str  # host:port of GCS
    dashboard: str  # http://host:port, jobs and status over HTTP
    token_path: str | None
    temp_dir: str | None
    attached: bool = False

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}

    def environment(self) -> dict[str, str]:
        """What a driver (the pools child, a job) needs in its environment to join this Ray, and no other."""
        found = {
            "RAY_ADDRESS": self.address,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
        }
        if self.token_path:
            found |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": self.token_path}
        if not self.attached:  # the only switch that keeps Ray on loopback on Linux; head and drivers alike
            found["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The runtime of one home."""

    id: str
    version: str
    address: str  # of the control API
    ports: Mapping[str, int]  # api, ingress, native, and Ray's
    ray: RayAddress
    flags: Mapping[str, Any] = field(default_factory=dict)
    supervisor: Process | None = None
    children: Mapping[str, Process] = field(default_factory=dict)  # api, head

    def to_json(self) -> dict[str, Any]:
        """JSON values; `from_json` gives the Runtime back."""
        return {
            "format": FORMAT,
            "id": self.id,
            "version": self.version,
            "address": self.address,
            "ports": dict(self.ports),
            "ray": self.ray.to_json(),
            "flags": dict(self.flags),
            "supervisor": self.supervisor.to_json() if self.supervisor else None,
            "children": {name: child.to_json() for name, child in self.children.items()},
        }


def from_json(body: Any) -> Runtime:
    """The Runtime of `to_json`. Raises InvalidInput on anything else."""
    try:
        if body["format"] != FORMAT:
            raise InvalidInput("runtime.json is of another format", given=body["format"], expected=str(FORMAT))
        return Runtime(
            id=body["id"],
            version=body["version"],
            address=body["address"],
            ports={str(k): int(v) for k, v in body["ports"].items()},
            ray=RayAddress(**body["ray"]),
            flags=body["flags"],
            supervisor=_process(body["supervisor"]) if body["supervisor"] else None,
            children={name: _process(child) for name, child in body["children"].items()},
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(
            "not a runtime.json",
            given=str(error),
            expected="what `rlaas up` writes",
            cure="`rlaas down`, then `rlaas up`.",
        ) from None


def _process(body: Mapping[str, Any]) -> Process:
    fields = {name: body[name] for name in ("pid", "start_time", "state", "restarts") if name in body}
    return Process(**fields, last=tuple(body.get("last", ())))
