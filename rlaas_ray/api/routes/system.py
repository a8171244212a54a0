"""What is neither a run nor a policy: health, metrics, envs, the words on problems, and the routes that replicas poll."""

from __future__ import annotations

import functools
import importlib.metadata
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Query, Response

from rlaas_ray import errors
from rlaas_ray.api.context import App, Who
from rlaas_ray.api.numbers import Numbers
from rlaas_ray.errors import NotFound

_POLL_S, _LOOK_S = 25.0, 1.0


def create(counts: Numbers) -> APIRouter:
    """Paths outside `/api/v1`, and `/environments`."""
    router = APIRouter()

    @router.get("/health", tags=["system"], operation_id="system_health")
    def health(app: App) -> Any:
        return {"status": "healthy", "version": importlib.metadata.version("rlaas-ray"), "controller": app.loop.acts}

    @router.get("/metrics", tags=["system"], operation_id="system_metrics", response_class=Response)
    def metrics() -> Any:
        return Response(counts.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @router.get("/docs/problems/{slug}", tags=["system"], operation_id="system_problem")
    def problem(slug: str) -> Any:
        kind = errors.all_errors().get(slug)
        if kind is None:
            raise NotFound("no such problem", given=slug, cure=errors.nearest(slug, sorted(errors.all_errors())))
        return {
            "type": f"/docs/problems/{slug}",
            "title": slug.replace("-", " "),
            "status": kind.status,
            "exit_code": kind.exit_code,
        }

    @router.get("/api/v1/environments", tags=["environments"], operation_id="environments_list")
    def environments(app: App) -> Any:
        return {"items": list(app.environments()), "next_cursor": None}

    @router.get("/api/v1/environments/{env_id:path}", tags=["environments"], operation_id="environments_get")
    def environment(env_id: str, app: App) -> Any:
        known = {str(item["id"]): item for item in app.environments()}
        if env_id not in known:
            raise NotFound("no such env", given=env_id, cure=errors.nearest(env_id, sorted(known)))
        return known[env_id]

    return router


def internal() -> APIRouter:
    """The long poll of replicas; not part of the public document."""
    router = APIRouter(prefix="/internal", include_in_schema=False)

    @router.get("/routes", operation_id="internal_routes")
    async def routes(
        pool: str,
        app: App,
        *,
        actor: Who,
        after_epoch: Annotated[int, Query(ge=-1)] = 0,
        listener: str | None = None,
        pid: int | None = None,
        wait_s: Annotated[float, Query(ge=0, le=_POLL_S)] = _POLL_S,
    ) -> Any:
        actor.must_be(f"pool:{pool}")
        address, waited_s = listener or None, 0.0  # a replica polls for itself too, and listens nowhere
        while True:
            if address is not None:
                app.feed.hear(pool, address=address, pid=pid, epoch=after_epoch)
            last = waited_s >= wait_s
            look = functools.partial(app.feed.news, pool, after_epoch=after_epoch, listener=address, last=last)
            news = await anyio.to_thread.run_sync(look)
            if news is not None:
                return news
            if last:
                return Response(status_code=204)
            # This process rings; another API replica's commit is seen at the next look.
            await app.feed.bell.wait(_LOOK_S)
            waited_s += _LOOK_S

    return router
