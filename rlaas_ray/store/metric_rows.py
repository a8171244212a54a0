"""Metric rows of runs, given back as columns.

Called by control for `POST /runs/{id}/metrics` and `GET /training/{id}/metrics`. A row sent twice is kept once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa

from rlaas_ray.store.database import Connection, from_text, to_text
from rlaas_ray.store.tables import run_metrics

Columns = dict[str, list[float | int | None]]


def add(tx: Connection, run_id: str, *, attempt: int, rows: Sequence[Mapping[str, float | int | None]]) -> int:
    """Append rows of {step, time_us, name: value, ...}; gives how many were new."""
    new = 0
    for row in rows:
        values = {name: value for name, value in row.items() if name not in {"step", "time_us"}}
        key = {"run_id": run_id, "step": int(row["step"] or 0), "time_us": int(row["time_us"] or 0)}
        found = tx.execute(
            sa.select(run_metrics.c.attempt).where(*(run_metrics.c[name] == value for name, value in key.items()))
        ).scalar()
        if found is None:
            tx.execute(run_metrics.insert().values(**key, attempt=attempt, values_json=to_text(values)))
            new += 1
    return new


def columns(tx: Connection, run_id: str) -> Columns:
    """`step`, `time_us` and one column per metric, in order of (step, time); None where a row lacks the metric."""
    query = run_metrics.select().where(run_metrics.c.run_id == run_id)
    rows = tx.execute(query.order_by(run_metrics.c.step, run_metrics.c.time_us)).all()
    values = [from_text(row.values_json) for row in rows]
    names = sorted({name for row in values for name in row})
    found: Columns = {"step": [row.step for row in rows], "time_us": [row.time_us for row in rows]}
    return found | {name: [row.get(name) for row in values] for name in names}
