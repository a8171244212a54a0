"""A clock that moves when told, for tests of anything that takes a Clock.

Sleeping advances it at once. Never reads the real time.
"""

from __future__ import annotations

from rlaas_ray.specs.seams import Clock


class ManualClock(Clock):
    """Starts at `now_us`; `advance` and `sleep` move it forward."""

    def __init__(self, now_us: int = 1_700_000_000_000_000) -> None:
        self._now_us = now_us
        self._start_us = now_us

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`."""
        self._now_us += round(seconds * 1e6)

    def now_us(self) -> int:
        return self._now_us

    def monotonic_s(self) -> float:
        return (self._now_us - self._start_us) / 1e6

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
