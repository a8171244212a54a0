"""Server-sent events of a run: what is there, then what comes, until the run has ended; a broken stream is taken up again.

Looks into the table each half second by primary key, sooner when this process wrote. At most 200 streams a process.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Sequence

import anyio.to_thread
import orjson

from rlaas_ray.control.runs import Runs
from rlaas_ray.errors import Unavailable
from rlaas_ray.specs.runs import ENDED, RunEvent

_LOOK_S, _PING_S, MOST = 0.5, 15.0, 200
FRONTS_AT_ONCE = 5  # whoever reads more slowly than a search finds sees these of what it missed


class Streams:
    """Counts the open streams of one app."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._open = 0

    def begin(self, run_id: str, *, after: int) -> AsyncIterator[bytes]:
        """The stream beyond `after`. Raises Unavailable when there are too many, NotFound for no such run."""
        if self._open >= MOST:
            raise Unavailable(
                "too many event streams", given=self._open, expected=f"at most {MOST}", cure="Close some."
            )
        return self._stream(run_id, after=after)

    async def _stream(self, run_id: str, *, after: int) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            yield b"retry: 2000\n\n"
            silent_s = 0.0
            while True:
                events, state = await anyio.to_thread.run_sync(
                    functools.partial(self._runs.events, run_id, after=after)
                )
                if events:
                    after, silent_s = events[-1].seq, 0.0
                for event in caught_up(events):
                    data = {**event.data, "attempt": event.attempt, "time_us": event.time_us}
                    yield _frame(event.kind, seq=event.seq, data=orjson.dumps(data))
                if events:
                    continue
                if state in ENDED:
                    yield _frame("end", seq=None, data=orjson.dumps({"state": state}))
                    return
                rang = await self._runs.bell.wait(_LOOK_S)
                silent_s += 0.0 if rang else _LOOK_S
                if silent_s >= _PING_S:
                    silent_s = 0.0
                    yield b": ping\n\n"
        finally:
            self._open -= 1


def caught_up(events: Sequence[RunEvent]) -> list[RunEvent]:
    """Events as a reader takes them that has fallen behind: of the fronts a few, evenly, and the last; all of the rest."""
    fronts = [event.seq for event in events if event.kind == "front"]
    stride = -(-len(fronts) // FRONTS_AT_ONCE) or 1
    shown = set(fronts[::-stride])
    return [event for event in events if event.kind != "front" or event.seq in shown]


def _frame(kind: str, *, seq: int | None, data: bytes) -> bytes:
    number = b"" if seq is None else b"id: %d\n" % seq
    return number + b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"
