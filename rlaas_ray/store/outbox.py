"""The outbox: acts promised in a transaction and done after it, at least once.

Written by control in the transaction that decides; worked off by `control/loop.py`. Never holds a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from rlaas_ray.store import ids
from rlaas_ray.store.database import Connection, from_text, to_text
from rlaas_ray.store.tables import outbox

Action = Literal["submit", "stop", "mirror_run", "mirror_version"]
_MAX_WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One promised act."""

    id: str
    action: Action
    payload: dict[str, Any]
    attempts: int
    created_us: int


def promise(tx: Connection, action: Action, *, payload: Mapping[str, Any], now_us: int) -> None:
    """Write an act down; it is due at once. One that already waits with the same payload is not written twice."""
    text = to_text(dict(payload))
    known = sa.select(outbox.c.id).where(
        outbox.c.action == action, outbox.c.payload_json == text, outbox.c.state == "waiting"
    )
    if tx.execute(known).first() is not None:
        return
    tx.execute(
        outbox.insert().values(
            id=ids.new("act"),
            action=action,
            payload_json=text,
            state="waiting",
            attempts=0,
            created_us=now_us,
            next_us=now_us,
        )
    )


def due(tx: Connection, *, now_us: int, limit: int = 32) -> list[Act]:
    """Acts to do now, oldest first."""
    query = outbox.select().where(outbox.c.state == "waiting", outbox.c.next_us <= now_us)
    rows = tx.execute(query.order_by(outbox.c.created_us, outbox.c.id).limit(limit))
    return [
        Act(
            id=row.id,
            action=row.action,
            payload=from_text(row.payload_json),
            attempts=row.attempts,
            created_us=row.created_us,
        )
        for row in rows
    ]


def done(tx: Connection, act: Act) -> None:
    """The act is done."""
    tx.execute(outbox.update().where(outbox.c.id == act.id).values(state="done", error=None))


def failed(tx: Connection, act: Act, *, error: str, now_us: int, give_up: bool) -> None:
    """The act raised: again after 1, 2, 4 ... 60 s, or never when it cannot succeed."""
    wait_s = min(2.0**act.attempts, _MAX_WAIT_S)
    values = {"attempts": act.attempts + 1, "error": error[:2000], "next_us": now_us + round(wait_s * 1e6)}
    tx.execute(outbox.update().where(outbox.c.id == act.id).values(**values, state="failed" if give_up else "waiting"))


def counts(tx: Connection) -> dict[str, float]:
    """State -> how many."""
    query = sa.select(outbox.c.state, sa.func.count()).group_by(outbox.c.state)
    return {state: float(count) for state, count in tx.execute(query)}


def forget(tx: Connection, *, before_us: int, limit: int) -> int:
    """Retention: what was done or given up long ago."""
    old = sa.select(outbox.c.id).where(outbox.c.state != "waiting", outbox.c.created_us < before_us).limit(limit)
    found = list(tx.execute(old).scalars())
    tx.execute(outbox.delete().where(outbox.c.id.in_(found)))
    return len(found)
