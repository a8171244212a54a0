"""The control API as one ASGI app: `create(application)`; routers translate, `control` decides.

Built by wiring for uvicorn and for the CLI's own process. Holds no global; its lifespan runs the controller loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse

from rlaas_ray.api import bodies, forward, gates, numbers, problems, reference
from rlaas_ray.api.events import Streams
from rlaas_ray.api.routes import endpoints, models, people, runs, system
from rlaas_ray.control.application import Application
from rlaas_ray.errors import RlaasError

LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})
_PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "cure": {"type": "string"},
        "request_id": {"type": "string"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}


def create(application: Application, *, hosts: frozenset[str] = LOCAL) -> FastAPI:
    """The app. `hosts`: names under which it may be asked; `*` for any."""
    app = FastAPI(
        title="RLaaS on Ray",
        version=importlib.metadata.version("rlaas-ray"),
        description=(
            "Train policies, serve them, judge them on live traffic. Decisions and rewards are asked at "
            "/v1/endpoints/{name}/decisions, /v1/endpoints/{name}/rewards and /predict, and at /v2 by the Open Inference "
            "Protocol: here, where they are forwarded, or at the addresses of the endpoint, which are faster."
        ),
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's page loads its script from a public network; ours is whole in itself
        redoc_url=None,
        responses={"default": {"description": "a problem", "content": {problems.MEDIA_TYPE: {"schema": _PROBLEM}}}},
    )
    app.state.application = application
    counts = numbers.Numbers(application)
    streams = Streams(application.runs)
    routers = [system.create(counts), system.internal(), *runs.create(), runs.stream(streams), models.router]
    for router in [*routers, endpoints.create(), endpoints.rollouts(), people.keys(), people.audit()]:
        app.include_router(router)
    for kind in (RlaasError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, problems.handle)
    # The last added stands outermost.
    app.add_middleware(gates.RateLimit, clock=application.clock)
    app.add_middleware(gates.KeyCheck, keyring=application.keyring)
    app.add_middleware(gates.BodyLimit)
    app.add_middleware(gates.Access, counts=counts)
    app.add_middleware(forward.Forward, application=application)
    app.add_middleware(gates.HostCheck, allowed=hosts)
    app.add_middleware(problems.Problems)
    _describe(app)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    application: Application = app.state.application
    task = asyncio.create_task(application.loop.run(), name="controller")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        application.close()


def _describe(app: FastAPI) -> None:
    """The OpenAPI document: FastAPI's, with our bodies and the key."""
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = build()
            components = document.setdefault("components", {})
            components["schemas"] = {**components.get("schemas", {}), **bodies.schemas()}
            components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "bearerFormat": "rlk_..."}}
            document["security"] = [{"key": []}]
            app.openapi_schema = document
        return app.openapi_schema

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(reference.page(app.openapi()))

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document
