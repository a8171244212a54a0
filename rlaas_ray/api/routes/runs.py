"""Runs of every kind: what people ask at `/training`, `/optimization`, `/evaluations` and `/runs`; what run processes report."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Response
from starlette.responses import StreamingResponse

from rlaas_ray.api import bodies, pages, roles
from rlaas_ray.api.context import App, Who
from rlaas_ray.api.events import Streams
from rlaas_ray.control.application import Application
from rlaas_ray.control.runs import Wanted
from rlaas_ray.errors import InvalidInput, NotFound, nearest
from rlaas_ray.specs.choose import ChooseSpec
from rlaas_ray.specs.document import Document
from rlaas_ray.specs.evaluate import EvaluateSpec
from rlaas_ray.specs.optimize import OptimizeSpec
from rlaas_ray.specs.runs import Progress, RunKind
from rlaas_ray.specs.train import TrainSpec
from rlaas_ray.specs.tune import TuneSpec
from rlaas_ray.store.reports import Told

State = Literal["queued", "running", "succeeded", "failed", "stopping", "stopped"]
Kind = Literal["train", "tune", "optimize", "evaluate"]
Tail = Annotated[int, Query(ge=1, le=100_000, description="how many of the last lines")]
_NOUNS: dict[str, tuple[RunKind, type[Document]]] = {
    "training": ("train", TrainSpec),
    "tuning": ("tune", TuneSpec),
    "optimization": ("optimize", OptimizeSpec),
    "evaluations": ("evaluate", EvaluateSpec),
}
_PROGRESS = {field.name for field in dataclasses.fields(Progress)}


def create() -> list[APIRouter]:
    """One router per noun, and the one for all runs."""
    return [
        *(_noun(name, kind=kind, spec=spec) for name, (kind, spec) in _NOUNS.items()),
        _many(),
        _runs(),
        _reports(),
    ]


def wanted(kind: RunKind, body: dict[str, Any], *, app: Application, actor: Any) -> Wanted:
    """What a body asks for; names in it are resolved now, so that a wrong one is refused and not a run that fails."""
    spec = bodies.spec(kind, body)
    if isinstance(spec, TrainSpec):
        app.check_env(spec.env)
        return Wanted(kind="train", spec=spec, place=spec.place, seed=spec.seed, name=spec.name)
    if isinstance(spec, TuneSpec):
        if spec.train is not None:
            app.check_env(spec.train.env)
        return Wanted(kind="tune", spec=spec, place=spec.place, seed=spec.seed, name=spec.name)
    if isinstance(spec, OptimizeSpec):
        return Wanted(kind="optimize", spec=spec, place="here", seed=spec.seed, name=spec.name)
    app.check_env(spec.env)
    resolved = app.models.resolve(spec.policy, actor=actor)
    # The number, not the alias: the record says what was evaluated, whatever the alias means later.
    pinned = spec.model_copy(update={"policy": resolved.version.ref})
    return Wanted(kind="evaluate", spec=pinned, place="here", seed=spec.seed)


def _noun(noun: str, *, kind: RunKind, spec: type[Document]) -> APIRouter:
    router = APIRouter(prefix=f"/api/v1/{noun}", tags=[noun])

    @router.post("", status_code=202, operation_id=f"{noun}_create", openapi_extra=bodies.described(spec))
    def create(body: bodies.Body, once: bodies.OnceKey, *, app: App, actor: Who, response: Response) -> Any:
        made = app.runs.create(wanted(kind, body, app=app, actor=actor), actor=actor, once=once)
        response.headers["Location"] = made.location
        if made.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return made.document

    @router.get("", operation_id=f"{noun}_list")
    def listed(app: App, *, limit: pages.Limit = 50, cursor: pages.Cursor = None, state: State | None = None) -> Any:
        return _page(app, kinds=[kind], state=state, limit=limit, cursor=cursor)

    if kind == "optimize":

        @router.get("/{run_id}/front", operation_id=f"{noun}_front")
        def front(run_id: str, app: App) -> Any:
            return app.runs.front(run_id)

        _chosen(router)

    if kind == "tune":

        @router.get("/{run_id}/trials", operation_id=f"{noun}_trials")
        def trials(run_id: str, app: App) -> Any:
            return {"items": app.runs.trials(run_id)}

    _shown(router, noun=noun, kind=kind)
    return router


def _chosen(router: APIRouter) -> None:
    """Points taken from the front of a search."""

    @router.post(
        "/{run_id}/choose",
        status_code=201,
        operation_id="optimization_choose",
        openapi_extra=bodies.described(ChooseSpec, required=False),
    )
    def choose(
        run_id: str, body: bodies.Body, *, once: bodies.OnceKey, app: App, actor: Who, response: Response
    ) -> Any:
        made = app.choices.choose(run_id, bodies.parse(ChooseSpec, body), actor=actor, once=once)
        response.headers["Location"] = made.location
        if made.replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return made.document

    @router.get("/{run_id}/choices", operation_id="optimization_choices")
    def choices(run_id: str, app: App) -> Any:
        return {"items": app.choices.listed(run_id)}


def _shown(router: APIRouter, *, noun: str, kind: RunKind) -> None:
    """What one run of a noun shows, and how it is stopped."""

    @router.get("/{run_id}", operation_id=f"{noun}_get")
    def get(run_id: str, app: App) -> Any:
        return _of_kind(app, run_id, kind=kind)

    @router.get("/{run_id}/progress", operation_id=f"{noun}_progress")
    def progress(run_id: str, app: App) -> Any:
        return _of_kind(app, run_id, kind=kind)["progress"]

    @router.get("/{run_id}/metrics", operation_id=f"{noun}_metrics")
    def metrics(run_id: str, app: App) -> Any:
        _of_kind(app, run_id, kind=kind)
        return app.runs.metrics(run_id)

    @router.get("/{run_id}/logs", operation_id=f"{noun}_logs")
    def logs(run_id: str, app: App, *, tail: Tail = 1000) -> Any:
        _of_kind(app, run_id, kind=kind)
        return {"lines": app.runs.logs(run_id, tail=tail)}

    @router.post("/{run_id}/stop", operation_id=f"{noun}_stop")
    def stop(run_id: str, app: App, *, actor: Who) -> Any:
        _of_kind(app, run_id, kind=kind)
        return app.runs.stop(run_id, actor=actor)


def _runs() -> APIRouter:
    router = APIRouter(prefix="/api/v1/runs", tags=["runs"])

    @router.get("", operation_id="runs_list")
    def listed(
        app: App,
        *,
        limit: pages.Limit = 50,
        cursor: pages.Cursor = None,
        kind: Kind | None = None,
        state: State | None = None,
    ) -> Any:
        return _page(app, kinds=[kind] if kind else [], state=state, limit=limit, cursor=cursor)

    @router.post("", status_code=202, operation_id="runs_adopt", openapi_extra=bodies.described(bodies.Adopt))
    def adopt(body: bodies.Body, app: App, *, actor: Who, response: Response) -> Any:
        told = bodies.parse(bodies.Adopt, body)
        made = wanted(told.kind, told.spec, app=app, actor=actor)
        made = dataclasses.replace(made, place=told.place)
        found = app.runs.adopt(made, place_ref=told.place_ref, actor=actor)
        response.headers["Location"] = f"/api/v1/runs/{found['id']}"
        return found

    @router.get("/{run_id}", operation_id="runs_get")
    def get(run_id: str, app: App) -> Any:
        return app.runs.get(run_id)

    @router.get("/{run_id}/progress", operation_id="runs_progress")
    def progress(run_id: str, app: App) -> Any:
        return app.runs.get(run_id)["progress"]

    @router.get("/{run_id}/metrics", operation_id="runs_metrics")
    def metrics(run_id: str, app: App) -> Any:
        return app.runs.metrics(run_id)

    @router.get("/{run_id}/logs", operation_id="runs_logs")
    def logs(run_id: str, app: App, *, tail: Tail = 1000) -> Any:
        return {"lines": app.runs.logs(run_id, tail=tail)}

    @router.post("/{run_id}/stop", operation_id="runs_stop")
    def stop(run_id: str, app: App, *, actor: Who) -> Any:
        return app.runs.stop(run_id, actor=actor)

    @router.post("/{run_id}/resume", status_code=202, operation_id="runs_resume")
    def resume(run_id: str, app: App, *, actor: Who) -> Any:
        return app.runs.resume(run_id, actor=actor)

    return router


def _many() -> APIRouter:
    """What a process tells that has many runs in hand; each is authorised by its own key."""
    router = APIRouter(prefix="/api/v1/runs", tags=["runs"])

    @router.post("/report", operation_id="runs_report", openapi_extra=bodies.described(bodies.Reports))
    def report(body: bodies.Body, app: App, *, actor: Who) -> Any:
        told = []
        for number, one in enumerate(bodies.parse(bodies.Reports, body).reports):
            _check_rows(one.rows, pointer=f"/reports/{number}/rows")
            progress = None if one.progress is None else _progress(one.progress)
            events = [event.model_dump() for event in one.events]
            told.append(
                (one.key, Told(run_id=one.run, attempt=one.attempt, progress=progress, events=events, rows=one.rows))
            )
        return {"runs": app.reports.take(told, roles=roles.RUN, request_id=actor.request_id)}

    return router


def _reports() -> APIRouter:
    """What a run process tells, with its own key."""
    router = APIRouter(prefix="/api/v1/runs/{run_id}", tags=["runs"])

    @router.post("/claim", operation_id="runs_claim", openapi_extra=bodies.described(bodies.Claim))
    def claim(run_id: str, body: bodies.Body, *, app: App, actor: Who) -> Any:
        told = bodies.parse(bodies.Claim, body)
        return app.runs.claim(run_id, attempt=told.attempt, place_ref=told.place_ref, actor=actor)

    @router.post("/heartbeat", operation_id="runs_heartbeat", openapi_extra=bodies.described(bodies.Heartbeat))
    def heartbeat(run_id: str, body: bodies.Body, *, app: App, actor: Who) -> Any:
        told = bodies.parse(bodies.Heartbeat, body)
        progress = None if told.progress is None else _progress(told.progress)
        return {"state": app.runs.beat(run_id, attempt=told.attempt, progress=progress, actor=actor)}

    @router.post("/events", operation_id="runs_add_events", openapi_extra=bodies.described(bodies.Events))
    def add_events(run_id: str, body: bodies.Body, *, app: App, actor: Who) -> Any:
        told = bodies.parse(bodies.Events, body)
        events = [event.model_dump() for event in told.events]
        return {"seq": app.runs.add_events(run_id, attempt=told.attempt, events=events, actor=actor)}

    @router.post("/metrics", operation_id="runs_add_metrics", openapi_extra=bodies.described(bodies.Metrics))
    def add_metrics(run_id: str, body: bodies.Body, *, app: App, actor: Who) -> Any:
        told = bodies.parse(bodies.Metrics, body)
        _check_rows(told.rows, pointer="/rows")
        return {"added": app.runs.add_metrics(run_id, attempt=told.attempt, values=told.rows, actor=actor)}

    @router.post("/finish", operation_id="runs_finish", openapi_extra=bodies.described(bodies.Finish))
    def finish(run_id: str, body: bodies.Body, *, app: App, actor: Who) -> Any:
        told = bodies.parse(bodies.Finish, body)
        final = told.model_dump(exclude={"attempt"})
        return app.runs.finish(run_id, attempt=told.attempt, final=final, actor=actor)

    @router.post("/register", operation_id="runs_register", openapi_extra=bodies.described(bodies.Register))
    def register(run_id: str, body: bodies.Body, *, app: App, actor: Who) -> Any:
        actor.must_be(f"run:{run_id}")
        told = bodies.parse(bodies.Register, body)
        return app.models.register(
            Path(told.path),
            name=told.name,
            actor=actor,
            run_id=run_id,
            attempt=told.attempt,
            evaluation=told.evaluation,
        )

    return router


def stream(streams: Streams) -> APIRouter:
    """`GET /runs/{id}/events`; apart, since it needs the count of open streams."""
    router = APIRouter(prefix="/api/v1/runs", tags=["runs"])

    @router.get(
        "/{run_id}/events",
        operation_id="runs_events",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {}}, "description": "events, then `end`"}},
    )
    def events(
        run_id: str,
        app: App,
        *,
        after: Annotated[int, Query(ge=0, description="the last seq that was seen")] = 0,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Any:
        app.runs.get(run_id)
        if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
            after = max(after, int(last_event_id))
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
        return StreamingResponse(streams.begin(run_id, after=after), media_type="text/event-stream", headers=headers)

    return router


def _page(app: Application, *, kinds: list[Any], state: str | None, limit: int, cursor: str | None) -> dict[str, Any]:
    after = pages.after(cursor, key=app.cursor_key)
    items = app.runs.page(kinds=kinds, state=state, after=after, limit=limit + 1)
    return pages.page(items, limit=limit, key=app.cursor_key)


def _of_kind(app: Application, run_id: str, *, kind: str) -> dict[str, Any]:
    found = app.runs.get(run_id)
    if found["kind"] != kind:
        raise NotFound(f"{run_id} is of another kind", given=found["kind"], expected=kind)
    return found


def _check_rows(rows: Sequence[Mapping[str, float | int | None]], *, pointer: str) -> None:
    for number, row in enumerate(rows):
        if not {"step", "time_us"} <= {name for name, value in row.items() if isinstance(value, int)}:
            raise InvalidInput(
                "a metric row",
                given=sorted(row),
                expected="whole numbers `step` and `time_us`",
                pointer=f"{pointer}/{number}",
            )


def _progress(told: dict[str, Any]) -> Progress:
    unknown = sorted(set(told) - _PROGRESS)
    if unknown:
        raise InvalidInput(
            "progress", given=unknown[0], expected="a known field", cure=nearest(unknown[0], sorted(_PROGRESS))
        )
    return Progress(**told)
