"""Clients that keep asking one policy server over kept connections, and what they saw: rates, latencies, failures.

For benchmarks and for tests of faults under load. Raw sockets on purpose: a client that costs more than the server measures
itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass, field

import numpy as np
import orjson

from rlaas_ray.specs.arrays import F64

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(slots=True, eq=False)
class Seen:
    """What clients saw. `gap_s` is the longest time without any good answer."""

    good: int = 0
    refused: int = 0  # no connection, or one that broke
    bad: dict[int, int] = field(default_factory=dict)  # by status
    latencies_s: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    seconds: float = 0.0
    gap_s: float = 0.0

    def percentile_ms(self, q: float) -> float:
        """Of the good answers."""
        values: F64 = np.asarray(self.latencies_s, dtype=np.float64)
        return float(np.percentile(values, q) * 1000) if len(values) else float("nan")

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.good / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`clients` connections for `seconds`, or until `requests` are done; `rate` > 0 spreads them evenly (open loop)."""

    host: str
    port: int
    path: str
    body: bytes
    clients: int = 64
    seconds: float = 5.0
    requests: int = 0
    rate: float = 0.0
    keep: bool = False
    retries: int = 0


async def run(load: Load) -> Seen:
    """Apply the load; returns when it is over."""
    seen = Seen()
    started_s = time.monotonic()
    counter = itertools.count()
    last = [started_s]
    await asyncio.gather(
        *(_client(load, seen=seen, counter=counter, started_s=started_s, last=last) for _ in range(load.clients))
    )
    seen.seconds = time.monotonic() - started_s
    return seen


async def _client(
    load: Load, *, seen: Seen, counter: itertools.count[int], started_s: float, last: list[float]
) -> None:
    head = f"POST {load.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(load.body)}\r\n\r\n"
    data = head.encode() + load.body
    streams: Streams | None = None
    until_s = started_s + load.seconds
    while (time.monotonic() < until_s) if not load.requests else True:
        index = next(counter)
        if load.requests and index >= load.requests:
            break
        asked_s = time.monotonic()
        if load.rate:
            asked_s = started_s + index / load.rate
            if asked_s > until_s:
                break
            await asyncio.sleep(max(0.0, asked_s - time.monotonic()))
        for attempt in range(load.retries + 1):
            try:
                if streams is None:
                    streams = await asyncio.open_connection(load.host, load.port)
                status, body, kept = await asyncio.wait_for(_ask(streams, data=data), 10)
            except (OSError, EOFError, TimeoutError, ValueError):
                await _closed(streams)
                streams = None
                if attempt == load.retries:
                    seen.refused += 1
                else:
                    await asyncio.sleep(0.02)
                continue
            _note(seen, status=status, body=body if load.keep else b"", asked_s=asked_s, last=last)
            if not kept:
                await _closed(streams)
                streams = None
            break
    await _closed(streams)


def _note(seen: Seen, *, status: int, body: bytes, asked_s: float, last: list[float]) -> None:
    now_s = time.monotonic()
    if status >= 300:
        seen.bad[status] = seen.bad.get(status, 0) + 1
        return
    seen.good += 1
    seen.gap_s = max(seen.gap_s, now_s - last[0])
    last[0] = now_s
    seen.latencies_s.append(now_s - asked_s)
    if body:
        seen.bodies.append(body)


async def _ask(streams: Streams, *, data: bytes) -> tuple[int, bytes, bool]:
    """Status, body, and whether the connection may be used again."""
    reader, writer = streams
    writer.write(data)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ", 1)[1].split(b"\r\n", 1)[0])
    body = await reader.readexactly(length)
    return int(head[9:12]), body, b"connection: close" not in head.lower()


async def _closed(streams: Streams | None) -> None:
    if streams is not None:
        streams[1].close()
        with contextlib.suppress(OSError):
            await streams[1].wait_closed()


def decision_ids(seen: Seen) -> set[str]:
    """Ids of the kept answers that say they were logged."""
    bodies = [orjson.loads(body) for body in seen.bodies]
    return {str(body["decision_id"]) for body in bodies if body.get("logged")}
