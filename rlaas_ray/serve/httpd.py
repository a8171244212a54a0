"""The HTTP engine under the native listener: uvicorn with httptools, held to limits that it does not set itself.

Built by `listener.py`. Under this door, `/predict` at 64 clients, uvicorn cost 128 us of CPU a request and granian 139, for 4,600
and 5,000 requests a second (`benchmarks/serving.py --engines`, medians of three runs of 3 s each, on two cores that others kept
at a load of 6): no difference that decides. uvicorn stays because its protocol is Python that can be held to the limits here. A
parser adapter of our own was not measured against this door. Knows HTTP only: no endpoint, no decision.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import types
from collections.abc import Callable
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

URL_LIMIT = 8 << 10
HEADERS_LIMIT = 16 << 10
FIELDS_LIMIT = 100
HEADER_S = 5.0
IDLE_S = 75
CONNECTIONS_LIMIT = 4096
_REASONS = {
    400: (b"Bad Request", "not valid HTTP/1.1"),
    408: (b"Request Timeout", "the head of the request took longer than 5 s"),
    414: (b"URI Too Long", "the request line is longer than 8 KiB"),
    431: (b"Request Header Fields Too Large", "the head is larger than 16 KiB or has more than 100 fields"),
}


class _Refused(Exception):
    """Ends the parsing of a request; the status is kept on the protocol."""


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on line, head and time, `Host` required, and errors as problem documents."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._refusal = 400
        self._in_head = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's own
        super().connection_made(transport)
        # A connection that never says anything is an idle one.
        self.timeout_keep_alive_task = self.loop.call_later(IDLE_S, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            return
        # A head that came in one piece, as nearly all do, needs neither clock nor count.
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_S, self._head_too_slow)
        # A field without end reaches no callback; its bytes are counted here.
        self._head_bytes += len(data)
        if self._head_bytes > 2 * HEADERS_LIMIT:
            self._refusal = 431
            self.send_400_response("")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > URL_LIMIT:
            self._refuse(414)

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > HEADERS_LIMIT or len(self.headers) > FIELDS_LIMIT:
            self._refuse(431)

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_timer()
        # RFC 9112 section 3.2: a request of HTTP/1.1 without exactly one Host is answered 400.
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (hosts == 0 and self.parser.get_http_version() == "1.1"):
            self._refuse(400)
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        if self.transport.is_closing():
            return
        status = self._refusal
        reason, detail = _REASONS[status]
        slug = {400: "bad-http", 408: "timeout", 414: "too-large", 431: "too-large"}[status]
        title = slug.replace("-", " ")
        body = orjson.dumps(
            {"type": f"/docs/problems/{slug}", "title": title, "status": status, "detail": detail, "cure": None}
        )
        head = b"HTTP/1.1 %d %s\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, reason, len(body)) + body)
        self.transport.close()

    def _refuse(self, status: int) -> None:
        self._refusal = status
        raise _Refused

    def _head_too_slow(self) -> None:
        self._head_timer = None
        self._refusal = 408
        self.send_400_response("")

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class HttpServer(uvicorn.Server):
    """A uvicorn server that tells before it drains, and gives what waits in the backlog a last chance."""

    def __init__(self, app: Any, *, drain_s: float, draining: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            loop="none",
            http=LimitedProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            backlog=2048,
            limit_concurrency=CONNECTIONS_LIMIT,
            timeout_keep_alive=IDLE_S,
            timeout_graceful_shutdown=max(1, round(drain_s)),
        )
        super().__init__(config)
        self._draining = draining
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then `listening` is set."""
        await super().startup(sockets)
        self.listening.set()

    def handle_exit(self, sig: int, frame: types.FrameType | None) -> None:
        """Say that we drain, then end.

        The main loop sees `should_exit` up to 0.1 s later: the time in which what was in the backlog is still accepted, and
        keep-alive clients hear `connection: close`.
        """
        self._draining()
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True

    def drain(self) -> None:
        """The same, from within."""
        self.handle_exit(signal.SIGTERM, None)
