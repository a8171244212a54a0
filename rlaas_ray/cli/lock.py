"""One `up` or `down` of a home at a time.

Held by both for as long as they work. The kernel gives it back when its holder dies.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlaas_ray.cli import output, runtime


@contextmanager
def held(home: Path) -> Iterator[None]:
    """The home, prepared, and nobody else at work on its runtime."""
    runtime.prepare(home)
    with (home / "runtime.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            output.say("another `rlaas up` or `rlaas down` is at work; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
