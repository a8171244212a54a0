"""What lies between a place and a host of many searches: a folder with a file for each attempt that the host has in hand.

Written by `hosting.py`, read and emptied by `host.py`. A file is there from the handing over until the attempt has ended, so
that a host that died finds all its work again. Files hold keys: the folder is 0700, each file 0600.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

LOG = "host.log"
_MARK_BYTES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One attempt: its key, its spec, who asked and when. `died`: how often a process died while it stepped this very run."""

    run_id: str
    attempt: int
    key: str
    spec: dict[str, Any]
    tenant: str
    created_us: int
    died: int = 0

    @property
    def name(self) -> str:
        """`RUN.ATTEMPT`, unique on this machine."""
        return f"{self.run_id}.{self.attempt}"

    @property
    def ref(self) -> str:
        """What the place calls the attempt."""
        return f"host:{self.run_id}:{self.attempt}"


class Inbox:
    """One host's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def put(self, order: Order) -> None:
        """Hand over, or replace what was handed over; whole or not at all."""
        self._write(f"{order.name}.json", orjson.dumps(dataclasses.asdict(order)))

    def names(self) -> set[str]:
        """The attempts that lie here."""
        return {path.name.removesuffix(".json") for path in self.folder.glob("*.json")}

    def get(self, name: str) -> Order | None:
        """The order of that name; None where it is gone."""
        try:
            return Order(**orjson.loads((self.folder / f"{name}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """The attempt has ended, or is another host's."""
        for suffix in (".json", ".stop"):
            (self.folder / f"{name}{suffix}").unlink(missing_ok=True)

    def ask_stop(self, name: str) -> None:
        """The attempt shall save and end."""
        self._write(f"{name}.stop", b"")

    def stops(self) -> set[str]:
        """The attempts that shall end."""
        return {path.name.removesuffix(".stop") for path in self.folder.glob("*.stop")}

    def lived_in(self) -> bool:
        """Whether a host holds this folder now."""
        with (self.folder / "lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def hold(self) -> int | None:
        """This process is the host until it ends, however it ends: the descriptor that holds it. None where another is."""
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return descriptor

    def leave(self) -> None:
        """Take the folder away; only where nothing lies in it."""
        for name in ("lock", "mark", LOG):
            (self.folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self.folder.rmdir()

    def _write(self, name: str, content: bytes) -> None:
        partial = self.folder / f".{name}.{os.getpid()}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        partial.replace(self.folder / name)


class Mark:
    """The name of what is being stepped now, in memory that the kernel keeps when the process is killed."""

    def __init__(self, inbox: Inbox) -> None:
        descriptor = os.open(inbox.folder / "mark", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.ftruncate(descriptor, _MARK_BYTES)
            self._memory = mmap.mmap(descriptor, _MARK_BYTES)
        finally:
            os.close(descriptor)
        self.before = self._memory[:].rstrip(b"\0").decode()  # what an earlier process was at when it died
        self.set("")

    def set(self, name: str) -> None:
        """Name it; an empty one: nothing."""
        self._memory[:] = name.encode()[:_MARK_BYTES].ljust(_MARK_BYTES, b"\0")
