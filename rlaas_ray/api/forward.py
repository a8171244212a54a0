"""Forwards `/v1`, `/v2` and `/predict` to the native listener of the pool that answers: bytes in, bytes out.

One address is enough for a client; the fast addresses are in the endpoint's document. Keys and load are the pool's own
business: it checks forwarded calls as it checks direct ones. A body beyond its limit is refused here, before it is held whole:
the pool would hang up in the middle of it, which looks from here as if the pool had failed. The pool is told who asked: this
server's peer stands at the end of `X-Forwarded-For`, behind what the peer itself said, so that a client elsewhere needs a key
though the call comes from here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import anyio.to_thread
import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from rlaas_ray.api import context
from rlaas_ray.control.application import Application
from rlaas_ray.control.loop import DEFAULT_POOL
from rlaas_ray.errors import TooLarge, Unavailable
from rlaas_ray.serve import wire

_PATH = re.compile(r"/(?:v1/endpoints/(?P<endpoint>[^/]+)|v2/models/(?P<model>[^/]+)|v1|v2|predict)(?:/.*)?")
# RFC 9110 7.6.1: of one connection only.
_HOP = {b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"host"}
_HOPS = b"x-forwarded-for"
_LEFT_OUT = _HOP | {b"content-length", _HOPS}
_TRIES = 2


class Forward:
    """`transport` reaches listeners; None: HTTP, 64 connections kept alive."""

    def __init__(
        self, app: ASGIApp, *, application: Application, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._app = app
        self._application = application
        self._transport = transport
        self._client: httpx.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        match = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        if match is None:
            if scope["type"] == "lifespan":
                await self._lifespan(scope, receive, send)
                return
            await self._app(scope, receive, send)
            return
        name = match["endpoint"] or match["model"] or ("default" if scope["path"].startswith("/predict") else None)
        body = await _whole(scope, receive)
        pool = await self._pool(name)
        for _ in range(_TRIES):
            listeners = self._application.feed.listeners(pool)
            if not listeners:
                break
            try:
                answer = await self._ask(scope, address=listeners[0].address, body=body)
            except httpx.ConnectError:
                # Refused before a byte was sent: it is gone; another may live.
                self._application.feed.forget(listeners[0].address)
                continue
            except httpx.HTTPError as error:
                raise Unavailable(f"pool {pool!r} did not answer", given=type(error).__name__, cure="Again.") from error
            await _send(answer, send)
            return
        raise Unavailable(
            f"pool {pool!r} is starting: no listener yet",
            expected="a policy server",
            cure="Wait as Retry-After says; `rlaas up` starts the policy servers, `rlaas status` shows them.",
        )

    async def _pool(self, name: str | None) -> str:
        if name is None:
            return DEFAULT_POOL
        found = await anyio.to_thread.run_sync(self._application.endpoints.pool_of, name)
        return found or DEFAULT_POOL  # unknown: the pool says so, as it does when asked directly

    async def _ask(self, scope: Scope, *, address: str, body: bytes) -> httpx.Response:
        if self._client is None:
            limits = httpx.Limits(max_connections=256, max_keepalive_connections=64)
            timeout = httpx.Timeout(60.0, connect=1.0)
            self._client = httpx.AsyncClient(
                limits=limits, timeout=timeout, follow_redirects=False, trust_env=False, transport=self._transport
            )
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        headers = [(key, value) for key, value in scope["headers"] if key not in _LEFT_OUT]
        headers.append((_HOPS, _hops(scope)))
        return await self._client.request(
            scope["method"], f"http://{address}{path}{query}", headers=headers, content=body or None
        )

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        try:
            await self._app(scope, receive, send)
        finally:
            if self._client is not None:
                await self._client.aclose()


def _hops(scope: Scope) -> bytes:
    """Who asked, as one list: what the client says came before it, then the client as this server's socket sees it."""
    client = scope.get("client")
    said = [value for key, value in scope["headers"] if key == _HOPS]
    return b", ".join([*said, (client[0] if client else "unknown").encode("latin-1", "replace")])


async def _whole(scope: Scope, receive: Receive) -> bytes:
    told = context.header(scope, b"content-length")
    if told.isascii() and told.isdigit() and int(told) > wire.BATCH_LIMIT:
        raise _too_large(int(told))
    found: list[bytes] = []
    size = 0
    async for chunk in _chunks(receive):
        size += len(chunk)
        if size > wire.BATCH_LIMIT:
            raise _too_large(size)
        found.append(chunk)
    return b"".join(found)


def _too_large(size: int) -> TooLarge:
    most = f"at most {wire.BATCH_LIMIT}"
    return TooLarge("body", given=f"{size} bytes or more", expected=most, cure="Send fewer rows.")


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


async def _send(answer: httpx.Response, send: Send) -> None:
    kept = [(key.lower(), value) for key, value in answer.headers.raw if key.lower() not in _HOP]
    # httpx has undone a content encoding, if there was one; length and encoding are ours to say again.
    kept = [(key, value) for key, value in kept if key not in {b"content-length", b"content-encoding"}]
    kept.append((b"content-length", str(len(answer.content)).encode()))
    await send({"type": "http.response.start", "status": answer.status_code, "headers": kept})
    await send({"type": "http.response.body", "body": answer.content})
