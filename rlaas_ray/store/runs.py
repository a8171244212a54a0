"""Rows of `runs`, their events, and the only way a run's state moves: compare-and-set on its epoch.

Called by control inside a transaction that it holds. Never decides whether a move is wanted; `specs/runs.py` says which
moves exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import sqlalchemy as sa

from rlaas_ray.errors import Conflict, LostLease, NotFound
from rlaas_ray.specs.runs import Progress, Run, RunEvent, RunState, check_move
from rlaas_ray.store.database import Connection, from_text, to_text
from rlaas_ray.store.tables import run_events, runs

# The newest of these tells all: of each run so many are kept, or a long search would fill the disk with fronts.
PASSING = "front"
PASSING_KEPT = 1000
# Outlive the other events of a run that ended long ago: they say what became of it.
KEPT = ("state", "choice")
_JSON = {"spec": "spec_json", "progress": "progress_json", "error": "error_json", "result": "result_json"}


def insert(tx: Connection, run: Run) -> None:
    """A new row."""
    tx.execute(runs.insert().values(_to_row(run)))


def get(tx: Connection, run_id: str) -> Run:
    """The run. Raises NotFound."""
    row = tx.execute(runs.select().where(runs.c.id == run_id)).one_or_none()
    if row is None:
        raise NotFound("no such run", given=run_id, cure="`rlaas runs list` shows them.")
    return _from_row(row)


def find_by_ref(tx: Connection, *, place: str, place_ref: str) -> Run | None:
    """The run that a place knows by this reference."""
    row = tx.execute(runs.select().where(runs.c.place == place, runs.c.place_ref == place_ref)).one_or_none()
    return None if row is None else _from_row(row)


def page(
    tx: Connection, *, kinds: Sequence[str], state: str | None, after: tuple[int, str] | None, limit: int
) -> list[Run]:
    """Newest first, by (created_us, id) below `after`."""
    query = runs.select().order_by(runs.c.created_us.desc(), runs.c.id.desc()).limit(limit)
    if kinds:
        query = query.where(runs.c.kind.in_(kinds))
    if state is not None:
        query = query.where(runs.c.state == state)
    if after is not None:
        query = query.where(sa.tuple_(runs.c.created_us, runs.c.id) < sa.tuple_(*map(sa.literal, after)))
    return [_from_row(row) for row in tx.execute(query)]


def move(tx: Connection, run: Run, *, to: RunState, **changes: Any) -> Run:
    """`run` in its new state. Raises Conflict when the move does not exist or somebody else moved it first."""
    check_move(run.state, to, run_id=run.id)
    values = {_JSON.get(name, name): _value(name, value) for name, value in changes.items()}
    result = tx.execute(
        runs.update()
        .where(runs.c.id == run.id, runs.c.epoch == run.epoch, runs.c.state == run.state)
        .values(state=to, epoch=run.epoch + 1, **values)
    )
    if result.rowcount != 1:
        raise Conflict(f"run {run.id} was changed by somebody else", expected=f"epoch {run.epoch}", cure="Ask again.")
    return get(tx, run.id)


def beat(tx: Connection, run_id: str, *, attempt: int, until_us: int, progress: Progress | None) -> Run:
    """Renew the lease of an attempt. Raises LostLease when the attempt is no longer the run's, or has ended."""
    values: dict[str, Any] = {"lease_until_us": until_us}
    if progress is not None:
        values["progress_json"] = to_text(asdict(progress))
    result = tx.execute(
        runs.update()
        .where(runs.c.id == run_id, runs.c.attempt == attempt, runs.c.state.in_(("running", "stopping")))
        .values(values)
    )
    if result.rowcount != 1:
        raise _lost(get(tx, run_id), attempt)
    return get(tx, run_id)


def owned(tx: Connection, run_id: str, *, attempt: int) -> Run:
    """The run, if `attempt` is the one that runs it. Raises LostLease."""
    run = get(tx, run_id)
    if run.attempt != attempt:
        raise _lost(run, attempt)
    return run


def set_place_ref(tx: Connection, run_id: str, *, attempt: int, place_ref: str) -> None:
    """Remember how the place calls this attempt."""
    tx.execute(runs.update().where(runs.c.id == run_id, runs.c.attempt == attempt).values(place_ref=place_ref))


def expired(tx: Connection, *, now_us: int) -> list[Run]:
    """Runs that should be alive and whose lease has run out."""
    query = runs.select().where(runs.c.state.in_(("running", "stopping")), runs.c.lease_until_us < now_us)
    return [_from_row(row) for row in tx.execute(query)]


def waiting(tx: Connection, *, before_us: int) -> list[Run]:
    """Queued runs made before `before_us` (those whose submission may have been forgotten)."""
    query = runs.select().where(runs.c.state == "queued", runs.c.created_us < before_us)
    return [_from_row(row) for row in tx.execute(query)]


def add_event(
    tx: Connection, run: Run, *, kind: str, data: Mapping[str, Any], time_us: int, source_seq: int | None = None
) -> int:
    """Append an event; gives its seq. One that the process already sent (`source_seq`) is kept once and gives its first seq."""
    if source_seq is not None:
        known = tx.execute(
            sa.select(run_events.c.seq).where(
                run_events.c.run_id == run.id,
                run_events.c.attempt == run.attempt,
                run_events.c.source_seq == source_seq,
            )
        ).scalar()
        if known is not None:
            return int(known)
    last = tx.execute(sa.select(sa.func.max(run_events.c.seq)).where(run_events.c.run_id == run.id)).scalar() or 0
    tx.execute(
        run_events.insert().values(
            run_id=run.id,
            seq=last + 1,
            attempt=run.attempt,
            source_seq=source_seq,
            time_us=time_us,
            kind=kind,
            data_json=to_text(dict(data)),
        )
    )
    if kind == PASSING:
        forget_passing(tx, run.id, last=int(last) + 1)
    return int(last) + 1


def forget_passing(tx: Connection, run_id: str, *, last: int) -> None:
    """Drop the fronts of a run that lie a thousand events behind its last one."""
    if last <= PASSING_KEPT:
        return
    old = run_events.c.seq <= last - PASSING_KEPT
    tx.execute(run_events.delete().where(run_events.c.run_id == run_id, old, run_events.c.kind == PASSING))


def newest(tx: Connection, run_id: str, *, kind: str) -> RunEvent | None:
    """The last event of that kind, None before the first."""
    query = run_events.select().where(run_events.c.run_id == run_id, run_events.c.kind == kind)
    row = tx.execute(query.order_by(run_events.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else _event(row)


def of_kind(tx: Connection, run_id: str, *, kind: str) -> list[RunEvent]:
    """All events of that kind, oldest first."""
    query = run_events.select().where(run_events.c.run_id == run_id, run_events.c.kind == kind)
    return [_event(row) for row in tx.execute(query.order_by(run_events.c.seq))]


def events(tx: Connection, run_id: str, *, after: int, limit: int) -> list[RunEvent]:
    """Events beyond `after`, oldest first."""
    query = (
        run_events.select()
        .where(run_events.c.run_id == run_id, run_events.c.seq > after)
        .order_by(run_events.c.seq)
        .limit(limit)
    )
    return [_event(row) for row in tx.execute(query)]


def counts(tx: Connection) -> dict[str, float]:
    """State -> how many."""
    query = sa.select(runs.c.state, sa.func.count()).group_by(runs.c.state)
    return {state: float(count) for state, count in tx.execute(query)}


def forget_events(tx: Connection, *, ended_before_us: int, limit: int) -> int:
    """Retention: events of runs that ended long ago, but their first, last, state changes and choices."""
    old = sa.select(runs.c.id).where(runs.c.ended_us < ended_before_us)
    edge = (
        sa.select(sa.func.max(run_events.c.seq))
        .where(run_events.c.run_id == runs.c.id)
        .correlate(None)
        .scalar_subquery()
    )
    doomed = (
        sa.select(run_events.c.run_id, run_events.c.seq)
        .where(
            run_events.c.run_id.in_(old), run_events.c.seq > 1, run_events.c.seq != edge, run_events.c.kind.not_in(KEPT)
        )
        .limit(limit)
    )
    found = [(row.run_id, row.seq) for row in tx.execute(doomed)]
    for run_id, seq in found:
        tx.execute(run_events.delete().where(run_events.c.run_id == run_id, run_events.c.seq == seq))
    return len(found)


def _event(row: Any) -> RunEvent:
    return RunEvent(seq=row.seq, attempt=row.attempt, time_us=row.time_us, kind=row.kind, data=from_text(row.data_json))


def _lost(run: Run, attempt: int) -> LostLease:
    return LostLease(
        f"attempt {attempt} does not own run {run.id}",
        given=f"attempt {attempt}",
        expected=f"attempt {run.attempt} in state running or stopping; it is {run.state}",
        cure="Write no further checkpoint and end.",
    )


def _to_row(run: Run) -> dict[str, Any]:
    names = (column.name for column in runs.columns if column.name not in _JSON.values())
    row = {name: getattr(run, name) for name in names}
    return row | {column: _value(name, getattr(run, name)) for name, column in _JSON.items()}


def _value(name: str, value: Any) -> Any:
    if name not in _JSON:
        return value
    if isinstance(value, Progress):
        return to_text(asdict(value))
    return None if value is None else to_text(value)


def _from_row(row: Any) -> Run:
    fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's documented name for the row as a mapping
    for name, column in _JSON.items():
        fields[name] = from_text(fields.pop(column))
    return Run(**{**fields, "progress": Progress(**fields["progress"])})
