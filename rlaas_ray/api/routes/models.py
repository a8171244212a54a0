"""Versions: list, show, import, alias, verify, export, deploy, delete."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from starlette.background import BackgroundTask
from starlette.responses import FileResponse

from rlaas_ray.api import bodies, pages
from rlaas_ray.api.context import App, Who
from rlaas_ray.specs.endpoint import EndpointSpec

router = APIRouter(prefix="/api/v1/models", tags=["models"])


@router.get("", operation_id="models_list")
def list_(app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None) -> Any:
    return _page(app.models.newest(), app=app, limit=limit, cursor=cursor)


@router.post("/import", status_code=201, operation_id="models_import", openapi_extra=bodies.described(bodies.Import))
def register(body: bodies.Body, app: App, *, actor: Who, response: Response) -> Any:
    told = bodies.parse(bodies.Import, body)
    found = app.models.register(Path(told.path).expanduser(), name=told.name, actor=actor)
    response.headers["Location"] = f"/api/v1/models/{found['name']}:{found['number']}"
    return found


@router.get("/{reference}", operation_id="models_get")
def get(reference: str, app: App) -> Any:
    return app.models.get(reference)


@router.get("/{reference}/versions", operation_id="models_versions")
def versions(reference: str, app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None) -> Any:
    return _page(app.models.versions(reference), app=app, limit=limit, cursor=cursor)


@router.get("/{reference}/metrics", operation_id="models_metrics")
def metrics(reference: str, app: App) -> Any:
    run_id = app.models.get(reference)["run_id"]
    return {"step": [], "time": []} if run_id is None else app.runs.metrics(run_id)


@router.get("/{reference}/bundle", operation_id="models_bundle", response_class=FileResponse)
def export(reference: str, app: App) -> Any:
    found = app.models.get(reference)
    folder = tempfile.TemporaryDirectory(prefix="rlaas-export-")
    name = f"{found['name']}-{found['number']}.tar.zst"
    path = app.models.export(reference, to=Path(folder.name) / name)
    return FileResponse(path, filename=name, media_type="application/zstd", background=BackgroundTask(folder.cleanup))


@router.post("/{reference}/verify", operation_id="models_verify")
def verify(reference: str, app: App) -> Any:
    return app.models.verify(reference)


@router.post("/{reference}/deploy", operation_id="models_deploy", openapi_extra=bodies.described(bodies.Deploy))
def deploy(reference: str, body: bodies.Body, *, app: App, actor: Who) -> Any:
    told = bodies.parse(bodies.Deploy, body)
    spec = bodies.parse(EndpointSpec, {"name": told.endpoint, "champion": reference})
    document, _ = app.endpoints.put(spec, actor=actor)
    return document


@router.put("/{reference}/aliases/{alias}", operation_id="models_alias")
def alias(reference: str, alias: str, *, app: App, actor: Who) -> Any:
    return app.models.alias(reference, alias=alias, actor=actor)


@router.delete("/{reference}", status_code=204, operation_id="models_delete")
def delete(reference: str, app: App, *, actor: Who) -> None:
    app.models.delete(reference, actor=actor)


def _page(items: list[dict[str, Any]], *, app: Any, limit: int, cursor: str | None) -> dict[str, Any]:
    after = pages.after(cursor, key=app.cursor_key)
    keyed = [{**item, "id": f"{item['name']}:{item['number']:09d}"} for item in items]
    keyed.sort(key=lambda item: (item["created_us"], item["id"]), reverse=True)
    if after is not None:
        keyed = [item for item in keyed if (item["created_us"], item["id"]) < after]
    page = pages.page(keyed[: limit + 1], limit=limit, key=app.cursor_key)
    shown = [{name: value for name, value in item.items() if name != "id"} for item in page["items"]]
    return {**page, "items": shown}
