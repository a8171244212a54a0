"""Processes of this machine, told apart by pid and start time, by session and by a mark in their environment.

Called by `here.py` and by the CLI's supervisor, `down` and `status`. Standard library and /proc alone; never signals a pid
that it has not just seen to be the process that was meant.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

_PROC = Path("/proc")


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which `pid` started; None where no such process lives (a zombie does not)."""
    found = _stat(pid)
    return None if found is None or found[0] == "Z" else int(found[19])


def session(pid: int) -> int | None:
    """The session that `pid` belongs to."""
    found = _stat(pid)
    return None if found is None else int(found[3])


def alive(pid: int, start: int) -> bool:
    """Whether `pid` is still the process that started at `start`."""
    return start_time(pid) == start


def waiting() -> Callable[[], float]:
    """A function that tells how many seconds this very thread has waited for a core so far; always 0 where no kernel says it."""
    try:
        descriptor = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        return lambda: 0.0
    return lambda: int(os.pread(descriptor, 128, 0).split()[1]) / 1e9


def every() -> list[int]:
    """All pids that /proc shows."""
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def in_session(leader: int) -> list[int]:
    """The living members of the session that `leader` led, the leader itself among them."""
    return [pid for pid in every() if session(pid) == leader and start_time(pid) is not None]


def marked(name: str, value: str) -> list[int]:
    """The living processes whose environment holds NAME=VALUE, as far as this user may look."""
    wanted = f"{name}={value}".encode()
    found = []
    for pid in every():
        try:
            environment = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:  # another user's, or gone meanwhile
            continue
        if wanted in environment.split(b"\0") and start_time(pid) is not None:
            found.append(pid)
    return found


def command_line(pid: int) -> str:
    """The command line of `pid`, or an empty text."""
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def send(pid: int, start: int, *, number: signal.Signals) -> bool:
    """Send a signal to exactly that process; False where it is gone."""
    descriptor = watch(pid, start)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def watch(pid: int, start: int) -> int | None:
    """A descriptor that becomes readable when the process ends (not only for our children); None where it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None
    if alive(pid, start):  # looked at after opening: the descriptor cannot be another process's any more
        return descriptor
    os.close(descriptor)
    return None


def wait(pid: int, start: int, *, timeout_s: float) -> bool:
    """True as soon as the process is gone, False after `timeout_s`."""
    descriptor = watch(pid, start)
    if descriptor is None:
        return True
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))
    finally:
        os.close(descriptor)


def end(pid: int, start: int, *, grace_s: float) -> None:
    """SIGTERM to the process group that `pid` leads, SIGKILL after `grace_s` to what is left of its session."""
    if alive(pid, start):
        group_signal(pid, signal.SIGTERM)
        wait(pid, start, timeout_s=grace_s)
    for member in in_session(pid):
        began = start_time(member)
        if began is not None and began >= start:  # older than the leader: another session with a pid used again
            send(member, began, number=signal.SIGKILL)
            wait(member, began, timeout_s=2)


def group_signal(leader: int, number: signal.Signals) -> None:
    """Signal the whole group that `leader` leads; nothing where it is gone."""
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        return


def _stat(pid: int) -> list[str] | None:
    """Fields of /proc/<pid>/stat from the third on (state, ppid, pgrp, session, ...): the name before may hold anything."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(") ")[2].split()
