"""How each face of the client waits between two looks. Called by the handles; it is theirs alone."""

from __future__ import annotations

import asyncio
import threading
import time

_FIRST_S, _LONGEST_S = 0.2, 2.0


class Looks:
    """When to look again: soon at first, then less often, never beyond the deadline."""

    def __init__(self, timeout_s: float | None) -> None:
        self._until = None if timeout_s is None else time.monotonic() + timeout_s
        self._next_s = _FIRST_S

    def over(self) -> bool:
        """Whether the deadline has passed."""
        return self._until is not None and time.monotonic() >= self._until

    def delay_s(self) -> float:
        """Seconds until the next look."""
        found, self._next_s = self._next_s, min(self._next_s * 1.5, _LONGEST_S)
        return found if self._until is None else max(0.0, min(found, self._until - time.monotonic()))


def pause(seconds: float) -> None:
    """Block this thread."""
    threading.Event().wait(seconds)


async def apause(seconds: float) -> None:
    """Let other tasks run."""
    await asyncio.sleep(seconds)
