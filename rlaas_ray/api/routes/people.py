"""Keys and the audit log: who may do what, and who did."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from rlaas_ray.api import bodies, pages
from rlaas_ray.api.context import App, Who


def keys() -> APIRouter:
    """`/api/v1/keys`."""
    router = APIRouter(prefix="/api/v1/keys", tags=["keys"])

    @router.get("", operation_id="keys_list")
    def listed(app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None) -> Any:
        after = pages.after(cursor, key=app.cursor_key)
        return pages.page(app.keyring.page(after=after, limit=limit + 1), limit=limit, key=app.cursor_key)

    @router.post("", status_code=201, operation_id="keys_create", openapi_extra=bodies.described(bodies.MakeKey))
    def create(body: bodies.Body, app: App, *, actor: Who, response: Response) -> Any:
        told = bodies.parse(bodies.MakeKey, body)
        made = app.keyring.make(roles=told.roles, note=told.note, expires_s=told.expires_s, actor=actor)
        response.headers["Location"] = f"/api/v1/keys/{made['id']}"
        response.headers["Cache-Control"] = "no-store"
        return made

    @router.delete("/{key_id}", status_code=204, operation_id="keys_revoke")
    def revoke(key_id: str, app: App, *, actor: Who) -> None:
        app.keyring.revoke(key_id, actor=actor)

    return router


def audit() -> APIRouter:
    """`/api/v1/audit`."""
    router = APIRouter(prefix="/api/v1/audit", tags=["audit"])

    @router.get("", operation_id="audit_list")
    def listed(app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None) -> Any:
        after = pages.after(cursor, key=app.cursor_key)
        items = app.records.page(before_seq=None if after is None else after[0], limit=limit + 1)
        return pages.page(items, limit=limit, key=app.cursor_key, time="seq", name="seq")

    @router.get("/verify", operation_id="audit_verify")
    def verify(app: App) -> Any:
        return app.records.verify()

    @router.get("/head", operation_id="audit_head")
    def head(app: App) -> Any:
        return app.records.head()

    return router
