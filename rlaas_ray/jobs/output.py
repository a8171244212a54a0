"""The lines of a log file that somebody else writes, until its writer is gone.

Called by the places of this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from rlaas_ray.specs.seams import Clock


def lines(path: Path, *, lives: Callable[[], bool], clock: Clock) -> Iterator[str]:
    """What is there, and while `lives()` what comes; a torn last line is given at the end."""
    with path.open(encoding="utf-8", errors="replace") as log:
        torn = ""
        while True:
            more = lives()  # asked before the last read, or the last lines could be missed
            for line in log:
                torn += line
                if torn.endswith("\n"):
                    yield torn.rstrip("\n")
                    torn = ""
            if not more:
                break
            clock.sleep(0.3)
        if torn:
            yield torn
