"""What belongs to one request: its id, who asks, and the application; kept in the ASGI scope.

Set by the middlewares, read by the routers. The id also goes into log lines (`logs.py`) by a context variable.
"""

from __future__ import annotations

import contextvars
import re
from collections.abc import MutableMapping
from typing import Annotated, Any

from fastapi import Depends, Request

from rlaas_ray.control.actor import Actor
from rlaas_ray.control.application import Application
from rlaas_ray.store import ids

_FORM = re.compile(r"[A-Za-z0-9._-]{8,64}")
current: contextvars.ContextVar[dict[str, str] | None] = contextvars.ContextVar("rlaas_request", default=None)


def begin(scope: MutableMapping[str, Any]) -> str:
    """The request's id: the client's where it has the form, else a new one."""
    given = header(scope, b"x-request-id")
    request = given if _FORM.fullmatch(given) else ids.new("req")
    scope.setdefault("state", {})["request_id"] = request
    current.set({"request_id": request})
    return request


def request_id(scope: MutableMapping[str, Any]) -> str | None:
    """The id that `begin` gave."""
    found = scope.get("state", {}).get("request_id")
    return None if found is None else str(found)


def header(scope: MutableMapping[str, Any], name: bytes) -> str:
    """The first header of that (lower-case) name, or empty."""
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _application(request: Request) -> Application:
    found: Application = request.app.state.application
    return found


def _actor(request: Request) -> Actor:
    found: Actor = request.state.actor
    return found


App = Annotated[Application, Depends(_application)]
Who = Annotated[Actor, Depends(_actor)]
