"""The ASGI door: reads bodies within limits, gathers what one turn of the loop brings, sends what `answer.py` says.

Used by the native listener (under uvicorn) and by Serve's replica. Decides nothing but who is turned away at the door:
too large, too slow, too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from rlaas_ray.errors import Overloaded, RlaasError, TimedOut, TooLarge
from rlaas_ray.serve import keys, wire
from rlaas_ray.serve.answer import Answerer
from rlaas_ray.serve.wire import Answer, Request
from rlaas_ray.serve.writer import DecisionWriter
from rlaas_ray.specs.seams import Clock

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_S = 10.0
WAITING_LIMIT = 512
WAIT_LIMIT_S = 0.1
FEW = 64


class Door:
    """One per process and loop. `busy_s` is the time spent answering; `waiting` what has been read and not answered."""

    def __init__(self, answerer: Answerer, *, writer: DecisionWriter, clock: Clock) -> None:
        self._answerer = answerer
        self._writer = writer
        self._clock = clock
        self._turn: list[tuple[Request, asyncio.Future[Answer]]] = []
        # Running mean of what one request costs here: with the queue's length it says how long a new one would wait.
        self._cost_s = 1e-4
        self.inflight = 0
        self.requests = 0
        self.errors = 0
        self.busy_s = 0.0

    @property
    def waiting(self) -> int:
        """Requests read and not yet answered."""
        return len(self._turn)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 (ASGI's signature)
        """One HTTP request. Other scopes (websocket, lifespan) are not this door's."""
        if scope["type"] != "http":
            return
        self.inflight += 1
        try:
            await self._serve(scope, receive=receive, send=send)
        finally:
            self.inflight -= 1

    async def _serve(self, scope: Scope, *, receive: Receive, send: Send) -> None:
        request = _request(scope)
        try:
            self._admit(request)
            request.body = await _body(request, receive)
        except RlaasError as error:
            answer = self._answerer.refuse(request, error)
            # What is left of the body was not read: the connection cannot be used again.
            answer.headers.append((b"connection", b"close"))
        except ConnectionResetError:
            return
        else:
            request.arrived_s = self._clock.monotonic_s()
            answer = await self._answer(request)
        self.requests += 1
        self.errors += answer.status >= 500
        await _send(send, answer, head=request.method == "HEAD")

    def _admit(self, request: Request) -> None:
        """Turn away, before anything is parsed, what would wait too long; health, rewards and metrics are never turned away."""
        if not request.path.endswith(("/decisions", "/predict", "/infer")):
            return
        waiting = len(self._turn)
        # The estimate is trusted only where many wait: one turn that the machine held up makes it jump.
        long = waiting >= FEW and waiting * self._cost_s > WAIT_LIMIT_S
        if self.inflight > WAITING_LIMIT or long:
            raise Overloaded(
                "too many requests at once", given=f"{self.inflight} in flight", cure="Try again in a second."
            )

    async def _answer(self, request: Request) -> Answer:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()
        self._turn.append((request, future))
        if len(self._turn) == 1:
            # After whatever else this turn of the loop still reads: one batch, no added delay.
            loop.call_soon(self._flush, loop)
        answer = await future
        if answer.unsynced is not None and not await self._synced(loop):
            return answer.unsynced()
        return answer

    def _flush(self, loop: asyncio.AbstractEventLoop) -> None:
        turn, self._turn = self._turn, []
        started_s = self._clock.monotonic_s()
        answers = self._answerer.handle([request for request, _ in turn])
        spent_s = self._clock.monotonic_s() - started_s
        self.busy_s += spent_s
        self._cost_s += 0.05 * (spent_s / len(turn) - self._cost_s)
        for (_, future), answer in zip(turn, answers, strict=True):
            if not future.done():
                future.set_result(answer)
        if len(self._answerer.shadows):
            loop.call_soon(self._shadow, loop)

    def _shadow(self, loop: asyncio.AbstractEventLoop) -> None:
        # Behind the sends of the turn; while requests wait, shadows wait longer.
        if not self._turn:
            self._answerer.shadows.run_some()
        if len(self._answerer.shadows):
            loop.call_later(0.001, self._shadow, loop)

    async def _synced(self, loop: asyncio.AbstractEventLoop) -> bool:
        done: asyncio.Future[bool] = loop.create_future()

        def told(ok: bool) -> None:  # noqa: FBT001 (called by position from the fsync thread)
            loop.call_soon_threadsafe(_resolve, done, ok)

        self._writer.when_synced(told)
        return await done


def _resolve(done: asyncio.Future[bool], ok: bool) -> None:  # noqa: FBT001 (called by position from the loop)
    if not done.done():
        done.set_result(ok)


def _request(scope: Scope) -> Request:
    # Serve hands in the full path and the prefix that its app is mounted under; a server of ours has no prefix.
    path = scope["path"]
    root = scope.get("root_path") or ""
    if root and path.startswith(root):
        path = path[len(root) :] or "/"
    client = scope.get("client")
    # Who cannot be named is a stranger. Sockets of ours are TCP, so a peer has an address.
    local = client is not None and keys.loopback(str(client[0]))
    headers = dict(scope["headers"])
    if len(headers) < len(scope["headers"]):
        _join_hops(headers, given=scope["headers"])
    return Request(method=scope["method"], path=path, headers=headers, body=b"", arrived_s=0.0, local=local)


def _join_hops(headers: dict[bytes, bytes], *, given: Iterable[wire.Header]) -> None:
    """A field that came twice is one list (RFC 9110 5.2): the last line alone would hide the hops before it."""
    hops = [value for name, value in given if name == b"x-forwarded-for"]
    if hops:
        headers[b"x-forwarded-for"] = b",".join(hops)


async def _body(request: Request, receive: Receive) -> bytes:
    declared = request.headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > wire.BATCH_LIMIT:
        raise _too_large(int(declared))
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        return bytes(message.get("body", b""))
    try:
        async with asyncio.timeout(BODY_S):
            return await _rest(message, receive)
    except TimeoutError:
        raise TimedOut("the body took too long", given=f"{BODY_S:g} s", expected="the whole body within it") from None


async def _rest(message: MutableMapping[str, Any], receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ConnectionResetError
        part = message.get("body", b"")
        size += len(part)
        if size > wire.BATCH_LIMIT:
            raise _too_large(size)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)
        message = await receive()


async def _send(send: Send, answer: Answer, *, head: bool) -> None:
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
        *answer.headers,
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})


def _too_large(size: int) -> TooLarge:
    return TooLarge(
        "body", given=f"{size} bytes or more", expected=f"at most {wire.BATCH_LIMIT}", cure="Send fewer rows."
    )
