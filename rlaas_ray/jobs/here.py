"""Place `here`: an attempt as a process of this machine, in a session of its own, so that it outlives the API and the CLI.

Called by control through the seam Place. Its reference is `pid:start_time:attempt`. Never reads an exit status: the attempt
writes its own final state, and one that is dead without having done so is lost.
"""

from __future__ import annotations

import fcntl
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rlaas_ray.errors import InvalidInput, NotFound
from rlaas_ray.jobs import command, output, processes
from rlaas_ray.specs.runs import Run
from rlaas_ray.specs.seams import Clock, Place

RLAAS = (sys.executable, "-m", "rlaas_ray.cli")


class HerePlace(Place):
    """`directory` holds a folder per run: `<run id>/log.<attempt>.txt` and the reference of each attempt started."""

    def __init__(
        self,
        *,
        directory: Path,
        url: str,
        environment: Mapping[str, str],
        clock: Clock,
        rlaas: Sequence[str] = RLAAS,
    ) -> None:
        self._directory = directory
        self._url = url
        self._environment = environment
        self._clock = clock
        self._rlaas = tuple(rlaas)
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    def submit(self, run: Run, *, key: str) -> str:
        folder = self._directory / run.id
        folder.mkdir(parents=True, exist_ok=True)
        started = folder / f"process.{run.attempt}"
        with (folder / "submit.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two submits of one attempt: the second finds the first one's reference
            if started.exists():
                return started.read_text()
            ref = self._start(run, folder=folder, key=key)
            fresh = started.with_suffix(".new")
            fresh.write_text(ref)
            fresh.replace(started)
        return ref

    def alive(self, ref: str) -> bool:
        pid, start, _ = _parse(ref)
        child = self._children.get(pid)
        if child is not None and child.poll() is not None:  # our own: reap it
            del self._children[pid]
        return processes.alive(pid, start)

    def stop(self, ref: str, *, grace_s: float) -> None:
        pid, start, _ = _parse(ref)
        processes.end(pid, start, grace_s=grace_s)
        self.alive(ref)

    def logs(self, ref: str, *, run_id: str, follow: bool) -> Iterator[str]:
        attempt = _parse(ref)[2]
        path = self._directory / run_id / f"log.{attempt}.txt"
        if not path.exists():
            raise NotFound(f"the log of {run_id}, attempt {attempt}", given=str(path))
        return output.lines(path, lives=lambda: follow and self.alive(ref), clock=self._clock)

    def _start(self, run: Run, *, folder: Path, key: str) -> str:
        with (folder / f"log.{run.attempt}.txt").open("ab") as log:
            child = subprocess.Popen(  # noqa: S603 - our own program and arguments
                [*self._rlaas, *command.arguments(run)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=command.environment(self._environment, url=self._url, key=key),
                start_new_session=True,
            )
        # A child that ended within these microseconds is a zombie until it is polled: 0 then says "that one is gone".
        start = processes.start_time(child.pid) or 0
        self._children[child.pid] = child
        return f"{child.pid}:{start}:{run.attempt}"


def _parse(ref: str) -> tuple[int, int, int]:
    parts = ref.split(":")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise InvalidInput("not a reference of place `here`", given=ref, expected="pid:start_time:attempt")
    return int(parts[0]), int(parts[1]), int(parts[2])
