"""One batch of evaluations over several workers: which rows make a chunk, who is late, what is done about it. Pure.

Driven by evaluators.py with what it sees; the time is handed in. A chunk that takes three times as long as is usual is issued
a second time, and given up when that is late too: its rows have failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

CHUNKS_PER_WORKER = 4
LATE = 3.0  # times the median
SOONEST_S = 0.25  # nobody is late before: less is the noise of a busy machine
KNOWN_FROM = 3  # chunks, before which the median says nothing
_REMEMBERED = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Rows [start, stop) of a batch."""

    number: int
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """How many."""
        return self.stop - self.start


def chunks(rows: int, *, workers: int) -> tuple[Chunk, ...]:
    """The rows in order, ceil(rows / (workers x 4)) in a chunk: small enough that nobody waits long for the last one."""
    size = -(-rows // (workers * CHUNKS_PER_WORKER)) or 1
    return tuple(
        Chunk(number=number, start=start, stop=min(start + size, rows))
        for number, start in enumerate(range(0, rows, size))
    )


class Times:
    """What a row usually takes: the median over the newest chunks, of this batch and those before it."""

    def __init__(self, *, timeout_s: float | None = None) -> None:
        self._timeout_s = timeout_s
        self._row_s: deque[float] = deque(maxlen=_REMEMBERED)

    def tell(self, rows: int, *, seconds: float) -> None:
        """A chunk of so many rows took so long."""
        self._row_s.append(seconds / rows)

    def limit_s(self, rows: int) -> float | None:
        """When a chunk is late; None where nobody knows yet. `timeout_s`, the user's word for one row, is the upper end."""
        known = None if self._timeout_s is None else self._timeout_s * rows
        if len(self._row_s) < KNOWN_FROM:
            return known
        usual = max(LATE * median(self._row_s) * rows, SOONEST_S)
        return usual if known is None else min(usual, known)


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """What is to be done now, by chunk number: issued a second time, given up."""

    again: Sequence[int]
    lost: Sequence[int]


class Batch:
    """The book of one batch: what waits, what runs and since when, what is back."""

    def __init__(self, rows: int, *, workers: int, times: Times) -> None:
        self.chunks = chunks(rows, workers=workers)
        self._times = times
        self._waiting = deque(chunk.number for chunk in self.chunks)
        self._since_s: dict[int, list[float]] = {chunk.number: [] for chunk in self.chunks}
        self._back: set[int] = set()
        self.lost: set[int] = set()

    @property
    def over(self) -> bool:
        """Whether every chunk is back or given up."""
        return len(self._back) + len(self.lost) == len(self.chunks)

    @property
    def waits(self) -> bool:
        """Whether a chunk waits for a worker."""
        return bool(self._waiting)

    def settled(self, number: int) -> bool:
        """Whether nobody waits for this chunk any more."""
        return number in self._back or number in self.lost

    def next(self, *, now_s: float) -> Chunk | None:
        """The chunk that an idle worker takes now."""
        while self._waiting:
            number = self._waiting.popleft()
            if not self.settled(number):
                self._since_s[number].append(now_s)
                return self.chunks[number]
        return None

    def back(self, number: int, *, seconds: float) -> bool:
        """A chunk came back after so long; whether it was still waited for."""
        self._times.tell(self.chunks[number].rows, seconds=seconds)
        if self.settled(number):
            return False
        self._back.add(number)
        return True

    def fell(self, number: int) -> None:
        """The worker of a chunk is gone: it is issued again once, then given up."""
        if self.settled(number) or number in self._waiting:
            return
        if len(self._since_s[number]) > 1:
            self.lost.add(number)
        else:
            self._waiting.appendleft(number)

    def late(self, *, now_s: float) -> Late:
        """Who is late now. Those issued again wait for a worker from here on, before all others."""
        again: list[int] = []
        lost: list[int] = []
        for number, since_s in self._since_s.items():
            limit_s = self._times.limit_s(self.chunks[number].rows)
            if not since_s or limit_s is None or self.settled(number) or number in self._waiting:
                continue
            if now_s - since_s[-1] <= limit_s:
                continue
            (lost if len(since_s) > 1 else again).append(number)
        self._waiting.extendleft(reversed(again))
        self.lost.update(lost)
        return Late(again=again, lost=lost)
