"""Endpoints and their rollouts: make, replace, show, history, delete; start, judge's evidence, promote, abort."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from rlaas_ray.api import bodies, pages
from rlaas_ray.api.context import App, Who
from rlaas_ray.specs.endpoint import EndpointSpec
from rlaas_ray.specs.rollout import RolloutSpec

Most = Annotated[int, Query(ge=1, le=10_000, description="how many ticks")]
After = Annotated[int, Query(ge=0, description="the last seq that was seen")]


def create() -> APIRouter:
    """`/api/v1/endpoints`."""
    router = APIRouter(prefix="/api/v1/endpoints", tags=["endpoints"])

    @router.get("", operation_id="endpoints_list")
    def listed(app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None) -> Any:
        after = pages.after(cursor, key=app.cursor_key)
        items = app.endpoints.page(after=after, limit=limit + 1)
        return pages.page(items, limit=limit, key=app.cursor_key, name="name")

    @router.put(
        "/{name}",
        operation_id="endpoints_put",
        openapi_extra=bodies.described(EndpointSpec),
        responses={201: {"description": "the endpoint is new"}},
    )
    def put(name: str, body: bodies.Body, *, app: App, actor: Who, response: Response) -> Any:
        spec = bodies.parse(EndpointSpec, bodies.named(body, field="name", value=name))
        document, new = app.endpoints.put(spec, actor=actor)
        response.status_code = 201 if new else 200
        return document

    @router.get("/{name}", operation_id="endpoints_get")
    def get(name: str, app: App) -> Any:
        return app.endpoints.get(name)

    @router.delete("/{name}", status_code=204, operation_id="endpoints_delete")
    def delete(name: str, app: App, *, actor: Who) -> None:
        app.endpoints.delete(name, actor=actor)

    @router.get("/{name}/history", operation_id="endpoints_history")
    def history(name: str, app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None) -> Any:
        after = pages.after(cursor, key=app.cursor_key)
        items = app.endpoints.history(name, after_epoch=None if after is None else after[0], limit=limit + 1)
        return pages.page(items, limit=limit, key=app.cursor_key, time="epoch", name="epoch")

    @router.get("/{name}/evidence", operation_id="endpoints_evidence")
    def evidence(name: str, app: App) -> Any:
        return app.rollouts.newest_evidence(name)

    return router


def rollouts() -> APIRouter:
    """`/api/v1/endpoints/{name}/rollouts`."""
    router = APIRouter(prefix="/api/v1/endpoints/{name}/rollouts", tags=["rollouts"])

    @router.get("", operation_id="rollouts_list")
    def listed(name: str, app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None) -> Any:
        after = pages.after(cursor, key=app.cursor_key)
        items = app.rollouts.page(name, after=after, limit=limit + 1)
        return pages.page(items, limit=limit, key=app.cursor_key, time="started_us")

    @router.post("", status_code=202, operation_id="rollouts_start", openapi_extra=bodies.described(RolloutSpec))
    def start(name: str, body: bodies.Body, *, once: bodies.OnceKey, app: App, actor: Who, response: Response) -> Any:
        spec = bodies.parse(RolloutSpec, bodies.named(body, field="endpoint", value=name))
        made = app.rollouts.start(spec, actor=actor, once=once)
        response.headers["Location"] = made.location
        if made.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return made.document

    @router.get("/{rollout_id}", operation_id="rollouts_get")
    def get(name: str, rollout_id: str, *, app: App) -> Any:
        return app.rollouts.get(name, rollout_id)

    @router.get("/{rollout_id}/evidence", operation_id="rollouts_evidence")
    def evidence(name: str, rollout_id: str, *, app: App, after: After = 0, limit: Most = 10_000) -> Any:
        return {"items": app.rollouts.evidence(name, rollout_id, after=after, limit=limit)}

    @router.post("/{rollout_id}/promote", operation_id="rollouts_promote", openapi_extra=_reason())
    def promote(name: str, rollout_id: str, *, body: bodies.Body, app: App, actor: Who) -> Any:
        told = bodies.parse(bodies.Reason, body)
        return app.rollouts.promote(name, rollout_id, reason=told.reason, actor=actor)

    @router.post("/{rollout_id}/abort", operation_id="rollouts_abort", openapi_extra=_reason())
    def abort(name: str, rollout_id: str, *, body: bodies.Body, app: App, actor: Who) -> Any:
        told = bodies.parse(bodies.Reason, body)
        return app.rollouts.abort(name, rollout_id, reason=told.reason, actor=actor)

    return router


def _reason() -> dict[str, Any]:
    return bodies.described(bodies.Reason, required=False)
