"""Every error as `application/problem+json` (RFC 9457), from wherever it was raised; never a stack trace in a body.

The outermost middleware and FastAPI's handlers end here. A 5xx is logged with its request id; a client's fault is not.
"""

from __future__ import annotations

import logging
from typing import Any

import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rlaas_ray.api import context
from rlaas_ray.errors import (
    InvalidInput,
    MediaType,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    RlaasError,
    Unauthorized,
    Unavailable,
    WorkFailed,
)

_LOG = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class Problems:
    """Outermost: gives the request its id, and turns whatever came up to here into a problem document."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: PLR0917 - ASGI's signature
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = context.begin(scope)
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - the last place that can answer
            if not isinstance(error, RlaasError):
                _LOG.exception("request %s failed", request_id)
            if not begun:
                await response(error, request_id=request_id)(scope, receive, sending)


def response(error: Exception, *, request_id: str | None) -> Response:
    """The answer that states `error`."""
    known = from_exception(error)
    body = {**known.to_problem(), "request_id": request_id}
    if body["cure"] is None:
        del body["cure"]
    return Response(orjson.dumps(body), status_code=known.status, media_type=MEDIA_TYPE, headers=headers(known))


def headers(error: RlaasError) -> dict[str, str]:
    """What an answer with this error must carry besides its body."""
    found: dict[str, str] = {}
    if isinstance(error, Unauthorized):
        found["WWW-Authenticate"] = "Bearer"
    if isinstance(error, Overloaded | Unavailable):
        found["Retry-After"] = str(getattr(error, "retry_after_s", 1))
    if isinstance(error, MethodNotAllowed) and error.expected:
        found["Allow"] = error.expected
    return found


def from_exception(error: Exception) -> RlaasError:
    """Our error for any other; what nobody foresaw is a 500 that says nothing about the inside."""
    if isinstance(error, RlaasError):
        return error
    if isinstance(error, RequestValidationError):
        return _validation(error.errors()[0])
    if isinstance(error, HTTPException):
        return _http(error)
    return WorkFailed("the server failed", cure="The log on the server has the reason under this request id.")


async def handle(request: Request, error: Exception) -> Response:
    """FastAPI's handler for all of these."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        known: Exception = MethodNotAllowed(
            f"{request.method} is not for {request.url.path}", expected=(error.headers or {}).get("Allow")
        )
    else:
        known = error
    return response(known, request_id=context.request_id(request.scope))


def _validation(fault: dict[str, Any]) -> RlaasError:
    pointer = "/" + "/".join(str(part) for part in fault["loc"])
    name = str(fault["loc"][-1])
    return InvalidInput(f"parameter {name!r}", given=fault.get("input"), expected=fault["msg"], pointer=pointer)


def _http(error: HTTPException) -> RlaasError:
    kinds: dict[int, type[RlaasError]] = {404: NotFound, 405: MethodNotAllowed, 415: MediaType}
    kind = kinds.get(error.status_code, InvalidInput if error.status_code < 500 else WorkFailed)
    subject = "no such path" if error.status_code == 404 else str(error.detail)
    return kind(subject, cure="`/docs` lists every path." if error.status_code == 404 else None)
