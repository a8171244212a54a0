"""An ASGI app as a transport for httpx, in this process: it streams answers and runs the app's lifespan.

Used by the CLI where no server is up, and by tests. httpx has one of its own that holds an answer back until it is whole
and runs no lifespan, which would make `watch` silent and leave the app without its loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, MutableMapping
from typing import Any, TypeVar

import httpx

Message = MutableMapping[str, Any]
App = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]
ValueT = TypeVar("ValueT")


class AsyncAsgiTransport(httpx.AsyncBaseTransport):
    """Use as `httpx.AsyncClient(transport=...)`; `start` and `aclose` enter and leave the lifespan."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lifespan = _Lifespan(app)
        self._started = False

    async def start(self) -> None:
        """Enter the app's lifespan; requests do so by themselves."""
        if not self._started:
            self._started = True
            await self._lifespan.start()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One request; the answer's body comes chunk by chunk."""
        await self.start()
        exchange = _Exchange(await request.aread())
        task = asyncio.create_task(self._serve(request, exchange=exchange))
        first = await exchange.sent.get()
        if first is None:  # the app ended without an answer
            await task
            raise httpx.RemoteProtocolError("the application gave no answer", request=request)
        return httpx.Response(
            first["status"],
            headers=first.get("headers", []),
            stream=_Body(exchange, task=task),
            request=request,
        )

    async def aclose(self) -> None:
        """Leave the lifespan."""
        if self._started:
            await self._lifespan.stop()

    async def _serve(self, request: httpx.Request, *, exchange: _Exchange) -> None:
        try:
            await self._app(_scope(request), exchange.receive, exchange.send)
        finally:
            await exchange.sent.put(None)


class AsgiTransport(httpx.BaseTransport):
    """The same for `httpx.Client`: the app lives on a loop of its own in a thread, until `close`."""

    def __init__(self, app: App) -> None:
        self._inner = AsyncAsgiTransport(app)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rlaas-asgi", daemon=True)
        self._thread.start()

    def start(self) -> None:
        """Enter the app's lifespan now, so that its errors come here."""
        self.call(self._inner.start())

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """One request; the answer's body comes chunk by chunk."""
        request.read()
        response = self.call(self._inner.handle_async_request(request))
        return httpx.Response(
            response.status_code, headers=response.headers, stream=_SyncBody(response, owner=self), request=request
        )

    def close(self) -> None:
        """Leave the lifespan and end the loop."""
        if not self._thread.is_alive():
            return
        self.call(self._inner.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, ValueT]) -> ValueT:
        """Run `work` on the app's loop and wait for it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise


class _Exchange:
    """The two message queues of one request."""

    def __init__(self, body: bytes) -> None:
        self._received = [{"type": "http.request", "body": body, "more_body": False}]
        self._gone = asyncio.Event()
        self.sent: asyncio.Queue[Message | None] = asyncio.Queue()

    async def receive(self) -> Message:
        if self._received:
            return self._received.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.sent.put(message)

    def disconnect(self) -> None:
        self._gone.set()


class _Body(httpx.AsyncByteStream):
    def __init__(self, exchange: _Exchange, *, task: asyncio.Task[None]) -> None:
        self._exchange = exchange
        self._task = task

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (message := await self._exchange.sent.get()) is not None:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                return
        await self._task  # ended in the middle of a body: its error is ours

    async def aclose(self) -> None:
        self._exchange.disconnect()
        done, _ = await asyncio.wait([self._task], timeout=1.0)
        if not done:
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task


class _SyncBody(httpx.SyncByteStream):
    def __init__(self, response: httpx.Response, *, owner: AsgiTransport) -> None:
        self._response = response
        self._owner = owner
        self._chunks = response.stream.__aiter__() if isinstance(response.stream, httpx.AsyncByteStream) else None

    def __iter__(self) -> Iterator[bytes]:
        assert self._chunks is not None
        while (chunk := self._owner.call(self._next())) is not None:
            yield chunk

    async def _next(self) -> bytes | None:
        assert self._chunks is not None
        return await anext(self._chunks, None)

    def close(self) -> None:
        self._owner.call(self._response.aclose())


class _Lifespan:
    """The lifespan protocol, run as one task."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._answers: asyncio.Queue[Message] = asyncio.Queue()

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        await self._ask("startup")

    async def stop(self) -> None:
        if self._task is not None and not self._task.done():
            await self._ask("shutdown")
            await self._task

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
        try:
            await self._app(scope, self._events.get, self._answers.put)
        finally:
            await self._answers.put({"type": "ended"})

    async def _ask(self, phase: str) -> None:
        await self._events.put({"type": f"lifespan.{phase}"})
        answer = await self._answers.get()
        if self._task is not None and answer["type"] in {"ended", f"lifespan.{phase}.failed"}:
            await self._task  # raises what the app raised
            if answer["type"] != "ended":
                raise RuntimeError(f"the application's {phase} failed: {answer.get('message')}")


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "server": (request.url.host, request.url.port or 80),
        "client": ("127.0.0.1", 0),
        "root_path": "",
        "state": {},
    }
