"""What passes between a data-plane child and its parent: the settings in, the status page out, and who took a port over.

Used by `listener.py` (the child) and `watchdog.py` (the parent). Files and plain values; starts nothing.
"""

from __future__ import annotations

import dataclasses
import json
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

_PAGE = struct.Struct("<dQQIIQQqQ")
_SIZE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerConfig:
    """All that a child is told. `api` None: routes come from the file `routes/<pool>.json` alone, whenever it changes."""

    host: str
    port: int
    pool: str
    home: str  # `routes/` and `listeners/` lie below
    data: str  # the decision log lies below
    status: str  # the page's file
    generation: int  # grows with each new parent on this port
    api: str | None = None
    key: str | None = None
    auth: Literal["loopback", "key"] = "loopback"
    drain_s: float = 5.0

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The config of `to_json`."""
        fields: dict[str, Any] = json.loads(text)
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """One look at a page. Times by the machine's monotonic clock, which all its processes share."""

    heartbeat_s: float
    requests: int
    errors: int
    inflight: int
    queue: int
    busy_ns: int
    epoch: int
    pid: int
    log_dropped: int


class StatusPage:
    """A page of shared memory behind a file: the child writes, the parent reads, nobody waits."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, _SIZE)
            self._map = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    def write(self, status: Status) -> None:
        """Put a new state there."""
        _PAGE.pack_into(self._map, 0, *(getattr(status, field.name) for field in dataclasses.fields(Status)))

    def read(self) -> Status:
        """What stands there now."""
        values = _PAGE.unpack_from(self._map, 0)
        names = (field.name for field in dataclasses.fields(Status))
        return Status(**dict(zip(names, values, strict=True)))

    def clear(self) -> None:
        """As before the first heartbeat."""
        self._map[: _PAGE.size] = bytes(_PAGE.size)

    def close(self) -> None:
        """Let the memory go."""
        self._map.close()


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (`/proc/<pid>/stat`, field 22): with it a reused pid is told apart."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return None
    # The command (field 2) may hold spaces and brackets; fields are counted from behind it.
    return int(text.rpartition(")")[2].split()[19])


class Succession:
    """Files that say which processes serve a port, so that an orphan knows when it is no longer needed."""

    def __init__(self, home: Path, *, port: int) -> None:
        self._folder = home / "listeners" / str(port)

    def enter(self, *, pid: int, generation: int) -> None:
        """This process serves the port from now on."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{pid}.json"
        temporary = path.with_suffix(".part")
        body = {"pid": pid, "started": start_ticks(pid), "generation": generation}
        temporary.write_text(json.dumps(body), encoding="utf-8")
        temporary.rename(path)

    def leave(self, *, pid: int) -> None:
        """This process does not serve the port any more."""
        (self._folder / f"{pid}.json").unlink(missing_ok=True)

    def taken_over(self, *, generation: int) -> bool:
        """Whether a living process of a newer generation serves the port. Files of dead ones are removed on the way."""
        newer = False
        for path in self._folder.glob("*.json"):
            try:
                body = json.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue
            if start_ticks(int(body["pid"])) != body["started"]:
                path.unlink(missing_ok=True)
            elif int(body["generation"]) > generation:
                newer = True
        return newer
