"""What many attempts of one process tell, written in a few statements: leases, progress, events and metric rows of all.

Called by control inside one transaction that it holds. A hundred attempts told one by one would be four hundred statements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import sqlalchemy as sa

from rlaas_ray.specs.runs import Progress, RunState
from rlaas_ray.store import runs as run_rows
from rlaas_ray.store.database import Connection, to_text
from rlaas_ray.store.runs import PASSING, forget_passing
from rlaas_ray.store.tables import run_events, run_metrics, runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one attempt tells: events as it counted them {seq, kind, time_us, data}, rows of {step, time_us, name: value}."""

    run_id: str
    attempt: int
    progress: Progress | None = None
    events: Sequence[Mapping[str, Any]] = field(default=())
    rows: Sequence[Mapping[str, float | int | None]] = field(default=())


def states(tx: Connection, told: Sequence[Told]) -> dict[str, tuple[int, RunState]]:
    """Run id -> (attempt, state) of those that exist."""
    query = sa.select(runs.c.id, runs.c.attempt, runs.c.state).where(runs.c.id.in_([one.run_id for one in told]))
    return {row.id: (row.attempt, row.state) for row in tx.execute(query)}


def beats(tx: Connection, told: Sequence[Told], *, until_us: int) -> None:
    """Renew the leases, and keep the progress of those that tell one. The caller has seen that the attempts own their runs."""
    quiet = runs.update().where(runs.c.id == sa.bindparam("of")).values(lease_until_us=sa.bindparam("until"))
    rows = [{"of": one.run_id, "until": until_us} for one in told if one.progress is None]
    if rows:
        tx.execute(quiet, rows)
    moved = [
        {"of": one.run_id, "until": until_us, "progress": to_text(asdict(one.progress))} for one in told if one.progress
    ]
    if moved:
        tx.execute(quiet.values(progress_json=sa.bindparam("progress")), moved)


def add_events(tx: Connection, told: Sequence[Told]) -> None:
    """Append the events that are new; what was already sent (same attempt, same seq) is kept once."""
    some = [one for one in told if one.events]
    if not some:
        return
    ids = [one.run_id for one in some]
    query = sa.select(run_events.c.run_id, sa.func.max(run_events.c.seq).label("last"))
    last = {row.run_id: row.last for row in tx.execute(query.where(run_events.c.run_id.in_(ids)).group_by("run_id"))}
    known = run_events.select().with_only_columns(run_events.c.run_id, run_events.c.attempt, run_events.c.source_seq)
    oldest = min(int(event["seq"]) for one in some for event in one.events)
    seen = {
        tuple(row) for row in tx.execute(known.where(run_events.c.run_id.in_(ids), run_events.c.source_seq >= oldest))
    }
    rows: list[dict[str, Any]] = []
    for one in some:
        seq = int(last.get(one.run_id) or 0)
        for event in one.events:
            if (one.run_id, one.attempt, event["seq"]) in seen:
                continue
            seen.add((one.run_id, one.attempt, event["seq"]))
            seq += 1
            row = {"run_id": one.run_id, "seq": seq, "attempt": one.attempt, "source_seq": event["seq"]}
            data = to_text(dict(event["data"]))
            rows.append({**row, "time_us": event["time_us"], "kind": event["kind"], "data_json": data})
    if rows:
        tx.execute(run_events.insert(), rows)
    for run_id, seq in {row["run_id"]: row["seq"] for row in rows if row["kind"] == PASSING}.items():
        forget_passing(tx, run_id, last=seq)
    for run_id, seq in {row["run_id"]: row["seq"] for row in rows if row["kind"] == run_rows.PASSING}.items():
        run_rows.forget_passing(tx, run_id, last=seq)


def add_metrics(tx: Connection, told: Sequence[Told]) -> None:
    """Append the metric rows that are new."""
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for one in told:
        for row in one.rows:
            key = (one.run_id, int(row["step"] or 0), int(row["time_us"] or 0))
            values = {name: value for name, value in row.items() if name not in {"step", "time_us"}}
            text = to_text(values)
            rows[key] = {
                "run_id": key[0],
                "step": key[1],
                "time_us": key[2],
                "attempt": one.attempt,
                "values_json": text,
            }
    if not rows:
        return
    known = run_metrics.select().with_only_columns(run_metrics.c.run_id, run_metrics.c.step, run_metrics.c.time_us)
    ids, oldest = {key[0] for key in rows}, min(key[2] for key in rows)
    seen = {
        tuple(row) for row in tx.execute(known.where(run_metrics.c.run_id.in_(ids), run_metrics.c.time_us >= oldest))
    }
    fresh = [row for key, row in rows.items() if key not in seen]
    if fresh:
        tx.execute(run_metrics.insert(), fresh)
