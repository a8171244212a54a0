"""What stands before the routers, in this order: hosts, access log, body limit, key and role, rate.

Pure ASGI, so that streams stream and a client that goes away is noticed. Each raises an error of ours; `problems.py` answers.
"""

from __future__ import annotations

import logging
import re
import time

import anyio.to_thread
import limits
import limits.storage
import limits.strategies
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlaas_ray.api import context, numbers, roles
from rlaas_ray.control.keyring import Keyring
from rlaas_ray.errors import Forbidden, Overloaded, TooLarge, Unauthorized
from rlaas_ray.specs.seams import Clock

_ACCESS = logging.getLogger("rlaas_ray.access")
BODY_LIMIT = 1 << 20
_CREATION = re.compile(
    r"/api/v1/(training|optimization|evaluations|tuning|keys|runs|models/import|endpoints/[^/]+/rollouts)"
)


class HostCheck:
    """Refuses requests whose Host is not ours: a page of a stranger's site could otherwise reach a laptop by DNS rebinding."""

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str]) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        if scope["type"] == "http" and "*" not in self._allowed:
            host = context.header(scope, b"host")
            name = host[1 : host.index("]")] if host.startswith("[") and "]" in host else host.partition(":")[0]
            if name.lower() not in self._allowed:
                raise Forbidden(
                    "the Host header is not one of this server's names",
                    given=host,
                    expected=", ".join(sorted(self._allowed)),
                    cure="RLAAS_ALLOWED_HOSTS adds names.",
                )
        await self._app(scope, receive, send)


class Access:
    """One log line and two counts per request."""

    def __init__(self, app: ASGIApp, *, counts: numbers.Numbers) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            took_s = time.perf_counter() - begun
            route = getattr(scope.get("route"), "path", "other")
            self._counts.request(method=scope["method"], route=route, status=status, seconds=took_s)
            # Heartbeats and polls come every few seconds from each run and replica: of interest only when something is wrong.
            actor = scope.get("state", {}).get("actor")
            machine = actor is not None and bool(actor.roles & {"run", "pool"}) and status < 400
            level = logging.DEBUG if machine else logging.INFO
            _ACCESS.log(level, "%s %s %d %.1f ms", scope["method"], scope["path"], status, took_s * 1e3)


class BodyLimit:
    """Refuses a body beyond the limit while it is read; what the header says is believed only when it is too much."""

    def __init__(self, app: ASGIApp, *, limit: int = BODY_LIMIT) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        told = context.header(scope, b"content-length")
        if told.isascii() and told.isdigit() and int(told) > self._limit:
            raise self._too_large(int(told))
        seen = 0

        async def receiving() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise self._too_large(seen)
            return message

        await self._app(scope, receiving, send)

    def _too_large(self, size: int) -> TooLarge:
        return TooLarge("the request's body", given=f"{size} bytes", expected=f"at most {self._limit} bytes")


class KeyCheck:
    """Who asks, and whether they may; the actor is in `request.state.actor` afterwards."""

    def __init__(self, app: ASGIApp, *, keyring: Keyring) -> None:
        self._app = app
        self._keyring = keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        if scope["type"] == "http":
            await self._check(scope)
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        method, path = scope["method"], scope["path"]
        needed = roles.needed(method, path)
        if needed == roles.OPEN and needed is not None:
            return
        secret = _secret(scope)
        if not secret:
            raise Unauthorized(
                "no API key",
                expected="`Authorization: Bearer rlk_...`",
                cure="On the server's machine the first key is in $RLAAS_HOME/admin-key; `rlaas keys create` makes others.",
            )
        request_id = context.request_id(scope)
        actor = await anyio.to_thread.run_sync(lambda: self._keyring.who(secret, request_id=request_id))
        scope["state"]["actor"] = actor
        context.current.set({"request_id": request_id or "", "key_id": actor.id})
        if needed is not None and not actor.roles & needed:
            raise Forbidden(
                f"{method} {path} is not for this key",
                given=", ".join(sorted(actor.roles)),
                expected="one of " + ", ".join(sorted(needed)),
                cure="Ask an admin for a key with that role: `rlaas keys create --role ...`.",
            )


class TooMany(Overloaded):
    """Over the rate; `retry_after_s` goes into the header."""

    retry_after_s = 1


class RateLimit:
    """600 requests a minute per key, 300 that create something; a client over it hears when to come back."""

    def __init__(self, app: ASGIApp, *, clock: Clock, per_minute: int = 600, creating: int = 300) -> None:
        self._app = app
        self._clock = clock
        self._limiter = limits.strategies.SlidingWindowCounterRateLimiter(limits.storage.MemoryStorage())
        self._any = limits.RateLimitItemPerMinute(per_minute)
        self._creating = limits.RateLimitItemPerMinute(creating)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        actor = scope.get("state", {}).get("actor") if scope["type"] == "http" else None
        # Run processes and pools report on their own beat; their keys reach one run or one pool only.
        if actor is not None and "run" not in actor.roles:
            self._hit(self._any, "any", actor.id)
            if scope["method"] == "POST" and _CREATION.fullmatch(scope["path"]):
                self._hit(self._creating, "create", actor.id)
        await self._app(scope, receive, send)

    def _hit(self, item: limits.RateLimitItem, *names: str) -> None:
        if self._limiter.hit(item, *names):
            return
        stats = self._limiter.get_window_stats(item, *names)
        error = TooMany("too many requests", expected=f"at most {item}", cure="Wait as Retry-After says.")
        error.retry_after_s = max(1, round(stats.reset_time - self._clock.now_us() / 1e6))
        raise error


def _secret(scope: Scope) -> str:
    given = context.header(scope, b"authorization")
    if given[:7].lower() == "bearer ":
        return given[7:].strip()
    return context.header(scope, b"x-api-key")
