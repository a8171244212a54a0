"""The system clock of a data plane: what its processes hand to everything that takes a Clock.

`settings.SystemClock` is for those who read settings; a child is handed values alone.
"""

from __future__ import annotations

import threading
import time

from rlaas_ray.specs.seams import Clock


class ProcessClock(Clock):
    """Real time."""

    def __init__(self) -> None:
        self._never = threading.Event()

    def now_us(self) -> int:
        return time.time_ns() // 1000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        self._never.wait(seconds)
